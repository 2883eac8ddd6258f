"""CSK-Net: what its parts promise beyond the contract."""

import pytest
import torch

from crodino_lib.augment import augment
from crodino_lib.methods.registry import build_method
from crodino_lib.models.cen import StreamNorm
from crodino_lib.train import seeded
from tests.methods.conftest import batch_for, images_of, run_of


@pytest.fixture
def method(build):
    return build("csk-net", ("rgb", "thermal"))


def step(method, scenes, progress=0.5, seed=0):
    torch.manual_seed(seed)
    return method.train()(batch_for(method, scenes), progress)


def test_its_terms_are_those_of_the_equation(method, toy_scenes):
    assert set(step(method, toy_scenes)) == {
        "segmentation/rgb",
        "segmentation/thermal",
        "segmentation/rgb+thermal",
        "retention/logits",
        "retention/features",
        "fused",
        "contrast",
        "sparsity",
    }


def test_the_ir_student_has_no_place_for_an_eo_input_and_answers_beside_a_broken_one(method, toy_scenes, toy_card):
    images = images_of(("rgb", "thermal"), toy_scenes, toy_card)
    network = method.eval().students["rgb+thermal"]
    alone = network.trunk.decode(network.trunk.encode({"thermal": images["thermal"]}))["thermal"].logits
    broken = {"rgb": torch.full_like(images["rgb"], float("nan")), "thermal": images["thermal"]}
    beside = network.trunk.decode(network.trunk.encode(broken, exchanging=False))["thermal"].logits
    torch.testing.assert_close(beside, alone)
    method.export()
    assert method.predict({"thermal": images["thermal"]}).isfinite().all()
    with pytest.raises(ValueError, match="serves"):
        method.predict({"thermal": images["thermal"], "depth": images["thermal"]})


def test_a_training_step_moves_each_streams_statistics_by_its_own_images_alone(method, toy_scenes):
    norm = next(m for m in method.students["rgb+thermal"].modules() if isinstance(m, StreamNorm))  # the stem's

    def moved(**changed):
        for stream in norm.norms.values():
            stream.reset_running_stats()
        batch = batch_for(method, toy_scenes)
        for sensor, scale in changed.items():
            batch.images[sensor] = batch.images[sensor] * scale
        method.train()(batch, 0.5)
        return {name: stream.running_mean.clone() for name, stream in norm.norms.items()}

    before, after = moved(), moved(rgb=3.0)
    assert torch.equal(before["thermal"], after["thermal"])
    assert not torch.allclose(before["rgb"], after["rgb"])


def test_the_contrast_waits_for_its_part_of_the_run(method, toy_scenes):
    assert step(method, toy_scenes, progress=0.05)["contrast"].item() == 0
    assert step(method, toy_scenes, progress=0.2)["contrast"].item() > 0


def test_the_teacher_shapes_the_contrast_and_gets_no_gradient(method, toy_scenes):
    step(method, toy_scenes)["contrast"].backward()
    assert all(p.grad is not None for p in method.project_teacher.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())
    eo_decoder = method.students["rgb+thermal"].trunk.net.decoder.fuse[0][0].weight
    assert eo_decoder.grad.abs().sum() > 0


def test_earlier_batches_stay_in_the_bank_and_in_the_state(method, toy_scenes):
    assert len(method.bank.all()[0]) == 0
    step(method, toy_scenes)
    kept = len(method.bank.all()[0])
    assert kept > 0
    assert torch.equal(method.state_dict()["bank.filled"], method.bank.filled)
    step(method, toy_scenes)
    assert len(method.bank.all()[0]) > kept


def test_exchange_dropout_leaves_out_the_exchange_in_its_share_of_steps(build, toy_scenes, monkeypatch):
    seen = []
    for share in (0.0, 1.0):
        method = build("csk-net", exchange_dropout=share)
        network = method.students["rgb+depth"]
        each = network.each
        monkeypatch.setattr(network, "each", lambda *a, exchanging, f=each: seen.append(exchanging) or f(*a))
        step(method, toy_scenes)
    assert seen == [True, False]


def test_without_labels_every_term_is_finite(method, toy_scenes, toy_card):
    batch = augment(toy_scenes, [0, 1], toy_card, ("rgb", "thermal"), "paired", seeded(0, "x"), torch.device("cpu"))
    for label in batch.labels.values():
        label.fill_(255)
    terms = method.train()(batch, 0.5)
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


def test_an_inert_exchange_is_told(build):
    method = build("csk-net", threshold=0.02)  # all scales are above
    with pytest.warns(UserWarning, match="the exchange is inert: at most 0.0 %"):
        shares = method.diagnostics()
    assert set(shares.values()) == {0.0}
    assert min(build("csk-net").diagnostics().values()) == pytest.approx(0.2, abs=0.01)
    assert build("csk-net:no-exchange").diagnostics() == {}


def test_retention_where_right_ignores_what_the_teacher_gets_wrong(build, toy_scenes):
    method = build("csk-net", retention_where_right=True)
    batch = batch_for(method, toy_scenes)
    outputs = method.students["rgb+depth"].each(batch.images["rgb"], batch.images["depth"])
    teacher = method.teacher(batch.images)
    wrong = torch.full_like(batch.labels["rgb"], 3)
    teacher.logits = torch.zeros_like(teacher.logits)
    teacher.logits[:, 0] = 5.0  # it says class 0 everywhere
    inside = torch.ones_like(wrong, dtype=torch.bool)
    assert method.retention(outputs["rgb"], teacher, wrong, inside).item() == 0
    assert method.retention(outputs["rgb"], teacher, torch.zeros_like(wrong), inside).item() > 0


@pytest.mark.parametrize(("teacher", "seen"), [("early", ("rgb", "depth")), ("baseline", ("depth",))])
def test_another_teacher_than_the_eo_baseline_is_refused(teacher, seen, toy_card):
    config = run_of("csk-net", ("rgb", "depth")).model_copy(update={"teacher": teacher, "teacher_sensors": seen})
    with pytest.raises(ValueError, match="learns from the baseline of its first sensor, 'rgb', not from"):
        build_method(config, toy_card)
