import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from crodino_lib.augment import augment
from crodino_lib.config import RunConfig
from crodino_lib.data.sample import IGNORE
from crodino_lib.losses import (
    channel_distillation,
    cover,
    cross_image_similarity,
    pixel_distillation,
    prototype_map_distance,
    segmentation_cross_entropy,
)
from crodino_lib.methods.distillation import Distillation, View, adapter, at_size_of
from crodino_lib.methods.registry import METHODS, build_method
from crodino_lib.models.segnet import SegOutput
from crodino_lib.train import seeded
from tests.methods.conftest import SMALL

ROWS = [name for name, entry in METHODS.items() if entry.build is Distillation]


def config_of(name, sensors=("rgb",), teacher="early", teacher_sensors=("rgb", "depth"), **settings):
    given = {"sensors": sensors, "teacher": teacher, "teacher_sensors": teacher_sensors, "settings": settings}
    return RunConfig(method=name, model=SMALL, **given)


@pytest.fixture
def build(toy_card):
    return lambda *args, **kwargs: build_method(config_of(*args, **kwargs), toy_card)


@pytest.fixture(scope="module")
def batch(toy_scenes, toy_card):
    sensors = ("rgb", "depth")
    return augment(toy_scenes, list(range(8)), toy_card, sensors, "paired", seeded(0, "x"), torch.device("cpu"))


def steps(method, batch, count, learning_rate=1e-3):
    """Terms of each optimiser step."""
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], learning_rate)
    for step in range(count):
        torch.manual_seed(step)
        terms = method.train()(batch, step / count)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        yield {name: term.item() for name, term in terms.items()}


def outputs(method, batch):
    (sensor,) = method.sensors
    view = View(batch.labels[sensor], batch.inside[sensor])
    return method.students[sensor](batch.images[sensor]), method.teacher(batch.images), view


def outside(view):
    """The view of a batch that is padding all over."""
    return View(torch.full_like(view.labels, IGNORE), torch.zeros_like(view.inside))


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def mean_divergence(student, teacher, view, temperature):
    """Divergence at every position, without T^2, averaged by the share inside the scene."""
    q, p = (F.softmax(out.logits / temperature, dim=1) for out in (student, teacher))
    weight = cover(view.inside, q.shape[-2:])
    return ((p * (p / q).log()).sum(dim=1) * weight).sum() / weight.sum()


def cwd(student, teacher, view):
    return channel_distillation(student, teacher, 4.0, cover(view.inside, student.shape[-2:]))


EXPECTED = {  # row -> (cross-entropy's weight, its deterministic terms)
    "kd": (1, lambda s, t, y: {"pixels": mean_divergence(s, t, y, 1)}),
    "kd-v1": (0, lambda s, t, y: {"pixels": 16 * mean_divergence(s, t, y, 4)}),
    "kd-v2": (0.5, lambda s, t, y: {"pixels": 8 * mean_divergence(s, t, y, 4)}),
    "cwd-logits": (1, lambda s, t, y: {"channels": 3 * cwd(s.logits, t.logits, y)}),
    "cwd-features": (1, lambda s, t, y: {"features": 5 * cwd(s.decoded, t.decoded, y)}),
    "cirkd": (
        1,
        lambda s, t, y: {
            "pixels": pixel_distillation(s.logits, t.logits, 1.0, cover(y.inside, s.logits.shape[-2:])),
            "relations": cross_image_similarity(s.context, t.context, 0.1, 256),
        },
    ),
    "protokd": (
        1,
        lambda s, t, y: {
            "pixels": 2.5 * mean_divergence(s, t, y, 10),
            "prototypes": 0.1 * prototype_map_distance(s.decoded, t.decoded, y.labels, 4),
        },
    ),
    "maskd": (1, lambda s, t, y: {"tokens": torch.tensor(0.0), "overlap": torch.tensor(0.0)}),
    "mgd": (1, lambda s, t, y: {}),
    "mgd-cwd": (1, lambda s, t, y: {"channels": 3 * cwd(s.logits, t.logits, y)}),
}
RANDOM = {"cirkd": {"pixel_memory", "region_memory"}, "maskd": {"masks"}, "mgd": {"generation"}}


@pytest.mark.parametrize("name", EXPECTED)
def test_its_terms_carry_the_published_weights(name, build, batch):
    method = build(name).eval()  # no dropout
    with torch.no_grad():
        terms = method(batch, 0.5)
        student, teacher, view = outputs(method, batch)
        weight, expected = EXPECTED[name]
        expected = {f"distillation/{term}": value for term, value in expected(student, teacher, view).items()}
        expected["segmentation/rgb"] = weight * segmentation_cross_entropy(student.logits, view.labels)
    random = {f"distillation/{term}" for term in RANDOM.get(name.removesuffix("-cwd"), ())}
    assert set(terms) == set(expected) | random
    for term, value in expected.items():
        torch.testing.assert_close(terms[term], value, rtol=1e-4, atol=1e-6)
        assert value > 0 or name in ("kd-v1", "maskd")
    assert all(terms[term] > 0 for term in random)


def test_masked_generation_weighs_the_mean_squared_error_as_published_and_then_the_row(build, batch):
    method = build("mgd").eval()
    with torch.no_grad():
        torch.manual_seed(0)
        found = method(batch, 0.5)["distillation/generation"]
        student, teacher, view = outputs(method, batch)
        torch.manual_seed(0)
        kept = torch.rand(8, 1, 3, 4) >= 0.75
        generated = method.losses["generation"].generate(student.pyramid[-1] * kept)
    error = (generated - teacher.pyramid[-1]).square() * cover(view.inside, (3, 4)).unsqueeze(1)
    torch.testing.assert_close(found, 0.001 * 2e-5 * 2048 * 64 * 64 * error.mean(), rtol=1e-4, atol=0)
    assert 0 < kept.float().mean() < 0.5


@pytest.mark.parametrize("name", ROWS)
def test_a_late_fusion_teacher_with_maps_twice_as_wide_teaches_every_row(name, build, batch):
    method = build(name, teacher="late")
    student, teacher, _ = outputs(method.eval(), batch)
    assert teacher.decoded.shape[1] == 2 * student.decoded.shape[1]
    terms = method.train()(batch, 0.5)
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    trained = [p for key, p in method.named_parameters() if p.requires_grad and not key.endswith(".tokens")]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)


@pytest.mark.parametrize("name", ROWS)
def test_what_is_trained_for_a_loss_is_in_no_student(name, build, toy_card):
    method = build(name, teacher="late")
    baseline = build_method(config_of("baseline", teacher="", teacher_sensors=()), toy_card).students["rgb"]
    mine = method.students["rgb"].state_dict()
    assert mine.keys() == baseline.state_dict().keys()
    assert all(
        torch.equal(mine[key], value) for key, value in baseline.state_dict().items()
    )  # nor did building it move
    owned = sum(p.numel() for p in method.losses.parameters())
    assert (owned > 0) == (name in ("cwd-features", "cirkd", "maskd", "mgd", "mgd-cwd"))


@pytest.mark.parametrize(
    "name", [name for name in ROWS if name != "cirkd"]
)  # its relations count padding, as published
def test_nothing_is_learnt_of_the_teacher_outside_the_scene(name, build, batch):
    method = build(name).eval()
    student, teacher, view = outputs(method, batch)
    view = View(view.labels.clone(), view.inside.clone())
    view.labels[:, :, 32:], view.inside[:, :, 32:] = IGNORE, False
    other = SegOutput(teacher.logits.clone(), [*teacher.pyramid], *[None] * 3, teacher.decoded.clone())
    other.pyramid[-1] = other.pyramid[-1].clone()
    for features in (other.logits, other.decoded, other.pyramid[-1]):
        features[..., features.shape[-1] // 2 :] += torch.randn_like(features[..., features.shape[-1] // 2 :])
    for progress in (0.0, 0.5):
        for loss in method.losses.values():
            torch.manual_seed(0)
            expected = loss(student, teacher, view, progress)
            torch.manual_seed(0)
            found = loss(student, other, view, progress)
            # "tokens" is a cross-entropy of enlarged logits, which at the border see half a cell of their neighbours
            for term in expected.keys() - {"tokens"}:
                torch.testing.assert_close(found[term], expected[term], rtol=1e-5, atol=1e-7)


def test_outside_the_scene_all_distillation_is_nothing(build, batch):
    for name in ("kd", "cwd-logits", "cwd-features", "protokd", "maskd", "mgd"):
        method = build(name).eval()
        student, teacher, view = outputs(method, batch)
        for loss in method.losses.values():
            terms = loss(student, teacher, outside(view), 0.5)
            assert all(term.item() == 0 for term in terms.values())
    method = build("cirkd").eval()
    student, teacher, view = outputs(method, batch)
    terms = method.losses["memory"](student, teacher, outside(view), 0.5)
    assert {name: term.item() for name, term in terms.items()} == {"pixel_memory": 0, "region_memory": 0}


def test_kd_v1_logs_a_cross_entropy_of_zero_and_learns_nothing_of_the_classes(build, batch):
    method = build("kd-v1").eval()
    gradients = []
    for labels in (batch.labels["rgb"], torch.where(batch.labels["rgb"] == IGNORE, IGNORE, 0)):
        terms = method(replace(batch, labels={"rgb": labels}), 0.5)
        assert terms["segmentation/rgb"].item() == 0
        method.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        gradients.append([p.grad.clone() for p in method.students.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_tokens_learn_in_the_first_quarter_and_teach_afterwards(build, batch):
    method = build("maskd")
    tokens = method.losses["masks"].tokens
    seen = [tokens.detach().clone()]
    history = []
    for terms in steps(method, batch, 8):
        seen.append(tokens.detach().clone())
        history.append(terms)
    moved = [not torch.equal(before, after) for before, after in itertools.pairwise(seen)]
    assert moved == [True, True, *[False] * 6]
    assert [terms["distillation/masks"] > 0 for terms in history] == [False, False, *[True] * 6]
    assert [terms["distillation/tokens"] > 0 for terms in history] == moved


def test_while_tokens_learn_the_student_learns_from_labels_alone(build, batch):
    method = build("maskd").train()
    terms = method(batch, 0.1)
    (terms["distillation/tokens"] + terms["distillation/overlap"]).backward()
    assert all(p.grad is None for p in method.students.parameters())
    assert method.losses["masks"].tokens.grad.abs().sum() > 0


def test_a_constant_added_to_a_position_s_logits_counts_only_where_they_are_not_centred(build, batch):
    for centred in (True, False):
        method = build("maskd", centre_logits=centred).eval()
        student, teacher, view = outputs(method, batch)
        before = method.losses["masks"](student, teacher, view, 0.5)["masks"]
        student.logits = student.logits + torch.randn_like(student.logits[:, :1])
        after = method.losses["masks"](student, teacher, view, 0.5)["masks"]
        assert torch.isclose(before, after, rtol=1e-4).item() is centred


def test_the_memory_s_keys_of_a_class_are_teacher_vectors_at_that_class_s_positions(build, batch):
    method = build("cirkd").train()
    method(batch, 0.0)
    teacher = method.teacher(batch.images).context
    teacher = teacher / teacher.norm(dim=1, keepdim=True)
    labels = batch.labels["rgb"]
    small = F.interpolate(labels[:, None].float(), size=teacher.shape[-2:], mode="nearest-exact").long()[:, 0]
    keys, classes = method.losses["memory"].pixels.all()
    assert len(keys) == sum(min(16, int((image == k).sum())) for image in small for k in range(4))
    for key, k in zip(keys, classes.tolist(), strict=True):
        own = teacher.permute(0, 2, 3, 1)[small == k]
        assert torch.isclose(own, key, atol=1e-6).all(dim=1).any()
    regions, classes = method.losses["memory"].regions.all()
    share = torch.stack([F.adaptive_avg_pool2d((labels == k).float(), small.shape[-2:]) for k in range(4)], dim=1)
    means = torch.einsum("bkhw,bchw->bkc", share, teacher) / share.sum(dim=(2, 3)).clamp(min=1e-6)[..., None]
    for key, k in zip(regions, classes.tolist(), strict=True):
        assert torch.isclose(means[:, k], key, atol=1e-5).all(dim=1).any()


def test_a_memory_forgets_the_oldest_and_survives_a_saved_state(build, batch):
    method = build("cirkd", pixel_keys=5, region_keys=3).train()
    for _ in range(2):
        method(batch, 0.0)
    assert method.losses["memory"].pixels.filled.max() == 5
    assert method.losses["memory"].regions.filled.max() == 3
    again = build("cirkd", pixel_keys=5, region_keys=3)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.losses["memory"].pixels.all(), method.losses["memory"].pixels.all())


@pytest.mark.parametrize("name", ROWS)
def test_a_depth_student_learns_from_an_rgb_baseline(name, build, batch):
    method = build(name, ("depth",), "baseline", ("rgb",))
    assert method.batch_sensors == ("depth", "rgb")
    terms = method.train()(batch, 0.5)
    assert "segmentation/depth" in terms
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for p in method.students["depth"].parameters())


def test_an_adapter_is_one_convolution_and_only_where_widths_differ():
    features = torch.randn(2, 3, 4, 5)
    assert adapter(3, 3)(features) is features
    wider = adapter(3, 7)
    assert [p.shape for p in wider.parameters()] == [(7, 3, 1, 1)]
    assert [p.shape for p in adapter(3, 7, bias=True).parameters()] == [(7, 3, 1, 1), (7,)]
    assert wider(features).shape == (2, 7, 4, 5)


def test_a_teacher_s_maps_take_the_student_s_size_and_equal_ones_are_left_alone():
    def output(channels, size):
        fine, coarse = torch.randn(2, channels, 4 * size, 4 * size), torch.randn(2, channels, size, size)
        return SegOutput(fine, [fine, coarse], coarse, None, None, fine)

    student, small, same = output(3, 4), output(6, 2), output(6, 4)
    resized = at_size_of(small, student)
    assert [level.shape[-1] for level in (resized.logits, *resized.pyramid, resized.decoded)] == [16, 16, 4, 16]
    expected = F.interpolate(small.context, size=(4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized.context, expected, rtol=0, atol=0)
    assert at_size_of(same, student).context is same.context
