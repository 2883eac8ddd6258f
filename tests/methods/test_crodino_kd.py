import pytest
import torch
import torch.nn.functional as F

from crodino_lib.augment import augment
from crodino_lib.config import ModelConfig, RunConfig
from crodino_lib.losses.supervised_contrast import supervised_contrast
from crodino_lib.methods.registry import build_method
from crodino_lib.train import seeded

SENSORS = ("rgb", "depth")


@pytest.fixture
def build(toy_card):
    def build(name="crodino-kd", **settings):
        model = ModelConfig(block_channels=16, decoder_channels=16)
        return build_method(RunConfig(method=name, sensors=SENSORS, settings=settings, model=model), toy_card)

    return build


@pytest.fixture
def batch(toy_scenes, toy_card):
    return augment(toy_scenes, list(range(8)), toy_card, SENSORS, "decoupled", seeded(0, "x"), torch.device("cpu"))


def test_its_terms_are_those_of_the_equation(build, batch):
    terms = build().train()(batch, 0.5)
    assert set(terms) == {
        *(f"{term}/{sensor}" for term in ("segmentation", "auxiliary") for sensor in SENSORS),
        "overlap",
        "contrast",
    }


def test_the_contrast_fades_in_over_the_first_tenth(build, batch):
    method = build()
    values = []
    for progress in (0.0, 0.05, 0.1, 0.9):
        torch.manual_seed(0)
        values.append(method.train()(batch, progress)["contrast"].item())
    assert values[0] == 0
    assert values[1] == pytest.approx(0.5 * values[2], rel=1e-5)
    assert values[3] == pytest.approx(values[2], rel=1e-5)


@pytest.mark.parametrize(("weight", "term"), [("overlap_weight", "overlap"), ("contrast_weight", "contrast")])
def test_a_weight_scales_its_term(build, batch, weight, term):
    torch.manual_seed(0)
    one = build(**{weight: 1.0}).train()(batch, 0.5)[term]
    torch.manual_seed(0)
    half = build(**{weight: 0.5}).train()(batch, 0.5)[term]
    assert half.item() == pytest.approx(0.5 * one.item(), rel=1e-5)


def test_private_regions_are_negatives_and_never_anchors(build, batch):
    method = build().eval()
    outputs = {sensor: method.students[sensor](batch.images[sensor]) for sensor in SENSORS}
    with_private = method.contrast(outputs, batch.labels)
    for out in outputs.values():
        out.private = out.private[:, :0].new_ones(out.shared.shape) * out.shared  # private equal to shared
    assert method.contrast(outputs, batch.labels) > with_private


def test_the_contrast_joins_both_sensors_by_class(build, batch):
    """Alignment across sensors: with all regions of a class equal in both, it is lower than with one sensor flipped."""
    vectors = F.one_hot(torch.tensor([0, 1, 2, 0, 1, 2]), 3).float()
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    flipped = torch.cat([vectors[:3], vectors[[4, 5, 3]]])
    assert supervised_contrast(vectors, classes) < supervised_contrast(flipped, classes)


def test_the_auxiliary_segmenter_is_one_for_both_sensors_and_sees_the_shared_half_alone(build, batch):
    method = build()
    out = method.students["rgb"](batch.images["rgb"])
    method.auxiliary_loss(out, batch, "rgb").backward()
    projection = method.students["rgb"].projection[0].weight.grad
    assert projection[:16].abs().sum() > 0
    assert projection[16:].abs().sum() == 0
    assert all(p.grad is not None for p in method.auxiliary.parameters())


def test_the_reconstruction_trains_both_halves_and_ignores_invalid_pixels(build, batch):
    method = build("crodino-kd-rec")
    out = method.students["depth"](batch.images["depth"])
    loss = method.auxiliary_loss(out, batch, "depth")
    loss.backward()
    gradient = method.students["depth"].projection[0].weight.grad
    assert gradient[:16].abs().sum() > 0
    assert gradient[16:].abs().sum() > 0
    batch.valid["depth"][:] = False
    assert method.auxiliary_loss(method.students["depth"](batch.images["depth"]), batch, "depth").item() == 0


def test_the_overlap_reaches_both_halves(build, batch):
    method = build()
    method.train()(batch, 0.5)["overlap"].backward()
    for sensor in SENSORS:
        gradient = method.students[sensor].projection[0].weight.grad
        assert gradient[:16].abs().sum() > 0
        assert gradient[16:].abs().sum() > 0


def test_predictions_do_not_need_the_auxiliary_decoder(build, batch):
    method = build().eval()
    before = method.predict({"rgb": batch.images["rgb"]})
    del method.auxiliary
    torch.testing.assert_close(method.predict({"rgb": batch.images["rgb"]}), before, rtol=0, atol=0)
