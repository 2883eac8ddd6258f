from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from crodino_lib import losses
from crodino_lib.augment import augment, plain, warped
from crodino_lib.losses import info_nce, region_vectors, supervised_contrast
from crodino_lib.methods.registry import build_method
from crodino_lib.models.segnet import SegOutput
from crodino_lib.train import seeded
from tests.methods.conftest import EVERY_VARIANT, PAIR, outputs_of, run_of


@pytest.fixture(scope="module")
def reference(toy_card):
    return build_method(run_of("crodino-kd", PAIR), toy_card).students.state_dict()


def maps(shared, private=None):
    """Outputs of both sensors with given halves; the rest is not looked at."""
    private = shared if private is None else private
    return {s: SegOutput(None, [], None, shared[s], private[s], None) for s in PAIR}


def noise(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def striped(count):
    """Labels (count, 48, 64) of four classes that each cover whole cells of a map (6, 8)."""
    return (torch.arange(64) // 8 % 4).expand(count, 48, 64)


def test_its_terms_are_those_of_the_equation(build_pair, batch):
    terms = build_pair().train()(batch, 0.5)
    assert set(terms) == {
        *(f"{term}/{sensor}" for term in ("segmentation", "auxiliary") for sensor in PAIR),
        "overlap",
        "contrast",
    }


def test_the_contrast_fades_in_over_the_first_tenth(build_pair, batch):
    method = build_pair()
    values = []
    for progress in (0.0, 0.05, 0.1, 0.9):
        torch.manual_seed(0)
        values.append(method.train()(batch, progress)["contrast"].item())
    assert values[0] == 0
    assert values[1] == pytest.approx(0.5 * values[2], rel=1e-5)
    assert values[3] == pytest.approx(values[2], rel=1e-5)


@pytest.mark.parametrize(("weight", "term"), [("overlap_weight", "overlap"), ("contrast_weight", "contrast")])
def test_a_weight_scales_its_term(build_pair, batch, weight, term):
    torch.manual_seed(0)
    one = build_pair(**{weight: 1.0}).train()(batch, 0.5)[term]
    torch.manual_seed(0)
    half = build_pair(**{weight: 0.5}).train()(batch, 0.5)[term]
    assert half.item() == pytest.approx(0.5 * one.item(), rel=1e-5)


def test_private_regions_are_negatives_and_never_anchors(build_pair, batch):
    method = build_pair().eval()
    outputs = outputs_of(method, batch)
    with_private = method.contrast(outputs, batch.labels)
    for out in outputs.values():
        out.private = out.private[:, :0].new_ones(out.shared.shape) * out.shared  # private equal to shared
    assert method.contrast(outputs, batch.labels) > with_private


def test_the_contrast_joins_both_sensors_by_class(build_pair, batch):
    """Alignment across sensors: with all regions of a class equal in both, it is lower than with one sensor flipped."""
    vectors = F.one_hot(torch.tensor([0, 1, 2, 0, 1, 2]), 3).float()
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    flipped = torch.cat([vectors[:3], vectors[[4, 5, 3]]])
    assert supervised_contrast(vectors, classes) < supervised_contrast(flipped, classes)


def test_the_auxiliary_segmenter_is_one_for_both_sensors_and_sees_the_shared_half_alone(build_pair, batch):
    method = build_pair()
    method.auxiliary_loss(outputs_of(method, batch), batch, "rgb").backward()
    projection = method.students["rgb"].projection[0].weight.grad
    assert projection[:16].abs().sum() > 0
    assert projection[16:].abs().sum() == 0
    assert all(p.grad is not None for p in method.auxiliary.parameters())


def test_the_reconstruction_trains_both_halves_and_ignores_invalid_pixels(build_pair, batch):
    method = build_pair("crodino-kd-rec")
    loss = method.auxiliary_loss(outputs_of(method, batch), batch, "depth")
    loss.backward()
    gradient = method.students["depth"].projection[0].weight.grad
    assert gradient[:16].abs().sum() > 0
    assert gradient[16:].abs().sum() > 0
    batch.valid["depth"][:] = False
    assert method.auxiliary_loss(outputs_of(method, batch), batch, "depth").item() == 0


def test_the_overlap_reaches_both_halves(build_pair, batch):
    method = build_pair()
    method.train()(batch, 0.5)["overlap"].backward()
    for sensor in PAIR:
        gradient = method.students[sensor].projection[0].weight.grad
        assert gradient[:16].abs().sum() > 0
        assert gradient[16:].abs().sum() > 0


def test_predictions_do_not_need_the_auxiliary_decoder(build_pair, batch):
    method = build_pair().eval()
    before = method.predict({"rgb": batch.images["rgb"]})
    del method.auxiliary
    torch.testing.assert_close(method.predict({"rgb": batch.images["rgb"]}), before, rtol=0, atol=0)


VARIANTS = ["crodino-kd", "crodino-kd-rec", *(name for name in EVERY_VARIANT if name.startswith("crodino-"))]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_term_of_a_variant_is_finite_and_reaches_both_students(build_pair, toy_scenes, toy_card, name):
    """Each term by itself, so that no other hides that it is cut off; a term of weight 0 teaches nothing."""
    method = build_pair(name).train()
    regime = method.augmentation
    batch = augment(toy_scenes, list(range(8)), toy_card, PAIR, regime, seeded(0, "x"), torch.device("cpu"))
    terms = method(batch, 0.5)
    halves = {"overlap": ("rgb", "depth"), "contrast": ("rgb", "depth")}
    for term, value in terms.items():
        assert torch.isfinite(value)
        weights = [method.students[s].projection[0].weight for s in halves.get(term, (term.split("/")[-1],))]
        moved = any(gradient.any() for gradient in torch.autograd.grad(value, weights, retain_graph=True))
        assert moved is (getattr(method.settings, f"{term.split('/')[0]}_weight", 1.0) > 0)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_start_from_the_same_students(build_pair, name, reference):
    variant = build_pair(name).students.state_dict()
    assert all(torch.equal(variant[key], value) for key, value in reference.items())


def test_private_vectors_of_a_sensor_are_one_class_or_one_per_label(build_pair, batch):
    """The optimum of C1-lin: every private vector of a sensor the same. C1-mk has it where classes differ."""
    cells = {s: F.interpolate(batch.labels[s][:, None].float(), size=(6, 8))[:, 0].long() % 255 for s in PAIR}
    shared = {s: F.one_hot(cells[s], 12).movedim(-1, 1).float() for s in PAIR}
    by_class = {s: shared[s].roll(4 + 4 * m, dims=1) for m, s in enumerate(PAIR)}
    collapsed = {
        s: half.sum(dim=1, keepdim=True) * half.amax(dim=(0, 2, 3))[:, None, None] for s, half in by_class.items()
    }
    spread = {s: noise(m, 8, 12, 6, 8) for m, s in enumerate(PAIR)}

    def loss(name, private):
        return build_pair(name).contrast(maps(shared, private), batch.labels)

    assert loss("crodino-kd:c1-lin", collapsed) < loss("crodino-kd:c1-lin", by_class)
    assert loss("crodino-kd:c1-lin", collapsed) < loss("crodino-kd:c1-lin", spread)
    assert loss("crodino-kd:c1-mk", by_class) < loss("crodino-kd:c1-mk", collapsed)


def test_private_classes_of_the_two_sensors_are_apart(build_pair):
    classes = torch.arange(4)
    assert [build_pair("crodino-kd:c1-lin").private_classes(classes, m).unique().tolist() for m in (0, 1)] == [[4], [5]]
    found = torch.cat([classes, *[build_pair("crodino-kd:c1-mk").private_classes(classes, m) for m in (0, 1)]])
    assert found.tolist() == list(range(12))


def test_the_image_contrast_pairs_the_sensors_of_a_scene(build_pair, batch):
    method, one = build_pair("crodino-kd:c2"), noise(0, 8, 16, 3, 4)
    aligned, mixed = {"rgb": one, "depth": one}, {"rgb": one, "depth": one.roll(1, dims=0)}
    assert method.contrast_loss(maps(aligned), batch) < method.contrast_loss(maps(mixed), batch)


def test_the_pixel_contrast_follows_the_warps(build_pair, batch):
    """One map per scene, seen by each sensor through its own warp, is aligned; told the wrong warps, it is not."""
    scenes = F.interpolate(noise(0, 8, 16, 4, 4), size=(96, 96), mode="bilinear")
    unlabelled = torch.zeros(8, 96, 96, dtype=torch.int64)
    seen = {s: warped(scenes, torch.ones(8, 1, 96, 96), unlabelled, batch.warps[s], True)[0] for s in PAIR}
    method, wrong = build_pair("crodino-kd:c3"), dict(batch.warps)

    def loss(halves, warps):
        torch.manual_seed(0)
        return method.contrast_loss(maps(halves), replace(batch, warps=warps)).item()

    wrong["depth"] = wrong["depth"].roll(1, dims=0)
    told = loss(seen, batch.warps)
    assert told < loss(seen, wrong) - 0.3
    assert told < loss({"rgb": scenes, "depth": scenes}, batch.warps) - 0.3  # one map where geometry differs
    assert told < loss(seen | {"depth": noise(1, *scenes.shape)}, batch.warps) - 0.3


def test_the_pixel_contrast_keeps_its_matrix_small_and_is_zero_where_views_do_not_meet(build_pair, batch, monkeypatch):
    rows = []
    monkeypatch.setattr(losses, "info_nce", lambda a, b, tau: rows.append((len(a), len(b))) or info_nce(a, b, tau))
    halves = {s: noise(0, 8, 16, 3, 4).requires_grad_() for s in PAIR}
    build_pair("crodino-kd:c3", pixel_points=50).contrast_loss(maps(halves), batch)
    zoom = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]).repeat(8, 1, 1)
    apart = {"rgb": zoom + torch.tensor([0.0, 0.0, 0.8]), "depth": zoom - torch.tensor([0.0, 0.0, 0.8])}
    assert build_pair("crodino-kd:c3").contrast_loss(maps(halves), replace(batch, warps=apart)).item() == 0
    assert rows == [(50, 50), (0, 0)]


def test_swapped_codes_train_the_shared_half_of_their_sensor_and_the_private_half_of_the_other(
    build_pair, toy_scenes, toy_card
):
    method = build_pair("crodino-kd:x2")
    batch = plain(toy_scenes, list(range(8)), toy_card, PAIR, torch.device("cpu"))
    method.auxiliary_loss(outputs_of(method, batch), batch, "rgb").backward()
    own, other = (method.students[s].projection[0].weight.grad for s in PAIR)
    assert own[:16].any()
    assert not own[16:].any()
    assert not other[:16].any()
    assert other[16:].any()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"auxiliary": "swap"}, "auxiliary 'swap'.*augmentation 'paired', given augmentation 'decoupled'"),
        ({"queue": 8, "contrast": "pixel"}, "queue 8 .*contrast 'pixel'"),
        ({"queue": 8, "contrast": "image"}, "queue 8 .*contrast 'image'"),
    ],
)
def test_settings_that_do_not_suit_each_other_are_refused(build_pair, settings, says):
    with pytest.raises(ValueError, match=f"crodino-kd: settings = .*{says}"):
        build_pair(**settings)


@pytest.mark.parametrize("name", ["crodino-kd:d2", "crodino-kd:d3"])
def test_the_overlap_is_low_for_independent_and_high_for_equal_halves(build_pair, name):
    method = build_pair(name)
    labels = striped(32)
    draw = [noise(i, 32, 2, 6, 8).repeat(1, 8, 1, 1) for i in (0, 1)]  # varies in two directions alone
    one, other = (dict(zip(PAIR, (half, half), strict=True)) for half in draw)
    equal = method.overlap(maps(one)["rgb"], labels).item()
    independent = method.overlap(maps(one, other)["rgb"], labels).item()
    assert equal > 0.4
    assert 0 <= independent < 0.1


def test_few_regions_or_chance_below_zero_give_the_dependence_no_gradient(build_pair):
    method = build_pair("crodino-kd:d3")
    halves = [noise(i, 1, 16, 3, 4).requires_grad_() for i in (0, 1)]
    out = maps({s: halves[0] for s in PAIR}, {s: halves[1] for s in PAIR})["rgb"]
    loss = method.overlap(out, torch.zeros(1, 48, 64, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert not halves[0].grad.any()
    found = []
    for seed in range(10):
        one, other = ({s: noise(2 * seed + i, 8, 16, 6, 8) for s in PAIR} for i in (0, 1))
        found.append(method.overlap(maps(one, other)["rgb"], striped(8)).item())
    assert min(found) == 0 < max(found)  # chance puts about half of them below


def test_without_skips_only_the_bottleneck_counts(build_pair, batch):
    for skip in (False, True):
        student = build_pair("crodino-kd", skip=skip).eval().students["rgb"]
        pyramid = student.encoder(batch.images["rgb"])
        before = student.decode(pyramid).logits
        pyramid[student.skip_index] = pyramid[student.skip_index] + 1
        assert torch.equal(student.decode(pyramid).logits, before) is not skip


def test_regions_of_earlier_batches_are_keys_of_their_sensor_and_survive_a_resume(build_pair, batch):
    method = build_pair("crodino-kd:queue", queue=4)
    halves = {s: noise(i, 8, 16, 3, 4) for i, s in enumerate(PAIR)}
    later = {s: noise(2 + i, 8, 16, 3, 4).requires_grad_() for i, s in enumerate(PAIR)}
    method.eval().contrast(maps(halves), batch.labels)
    assert not any(queue.filled.any() for queue in method.queues.values())  # only training fills it
    first = method.train().contrast(maps(halves), batch.labels)
    torch.testing.assert_close(first, build_pair().contrast(maps(halves), batch.labels))  # it was empty
    again = build_pair("crodino-kd:queue", queue=4)
    again.load_state_dict(method.state_dict())
    for s in PAIR:
        regions = region_vectors(halves[s], batch.labels[s], 4)
        assert method.queues[s].filled.tolist() == regions.classes.bincount(minlength=4).clamp(max=4).tolist()
        kept = method.queues[s].all()[0]
        assert all((regions.vectors == vector).all(dim=1).any() for vector in kept)
    second = method.contrast(maps(later), batch.labels)
    assert second != build_pair().contrast(maps(later), batch.labels)
    torch.testing.assert_close(again.train().contrast(maps(later), batch.labels), second, rtol=0, atol=0)
    second.backward()
    assert all(half.grad.any() for half in later.values())
    assert not any(queue.vectors.requires_grad for queue in method.queues.values())
