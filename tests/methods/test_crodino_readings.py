"""CroDiNo-KD as MDiCo makes it likelier: X4, D4, the contrasts at full weight, and classes that students predict."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from crodino_lib import losses
from crodino_lib.data.sample import IGNORE
from crodino_lib.methods.registry import METHODS
from crodino_lib.models.segnet import SegOutput
from tests.losses.helpers import softmax
from tests.methods.conftest import PAIR, outputs_of


def gradients(loss, method, sensor):
    """Gradients of the weights that make the shared and the private half."""
    method.zero_grad()
    loss.backward()
    return method.students[sensor].projection[0].weight.grad.split(16)


def hidden(batch, scenes):
    """The batch with the labels of some scenes hidden."""
    labels = {sensor: label.clone() for sensor, label in batch.labels.items()}
    for label in labels.values():
        label[scenes] = IGNORE
    return replace(batch, labels=labels)


# -- X4: the auxiliary decoder segments either half


def cross_entropy(logits, labels):
    """The mean over labelled pixels, pixel by pixel."""
    up = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    places = torch.nonzero(labels != IGNORE).tolist()
    return sum(-math.log(softmax(up[b, :, y, x].tolist())[labels[b, y, x]]) for b, y, x in places) / len(places)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_x4_is_the_mean_of_the_cross_entropies_of_both_halves(weight, build_pair, batch):
    method = build_pair("crodino-kd:x4", auxiliary_weight=weight).eval()
    few = replace(batch, labels={s: label[:2, ::6, ::6] for s, label in batch.labels.items()})  # loops are slow
    outputs = {
        s: SegOutput(*[None] * 3, out.shared[:2], out.private[:2], None) for s, out in outputs_of(method, batch).items()
    }
    for sensor, out in outputs.items():
        halves = [
            cross_entropy(method.auxiliary(half).detach(), few.labels[sensor]) for half in (out.shared, out.private)
        ]
        found = method.auxiliary_loss(outputs, few, sensor).item()
        assert halves[0] != pytest.approx(halves[1], rel=1e-3)
        assert found == pytest.approx(weight * sum(halves) / 2, rel=1e-4)


def test_x4_trains_both_halves_with_one_decoder(build_pair, batch):
    method = build_pair("crodino-kd:x4")
    shared, private = gradients(method.auxiliary_loss(outputs_of(method, batch), batch, "rgb"), method, "rgb")
    assert shared.any()
    assert private.any()
    count = sum(p.numel() for p in method.auxiliary.parameters())
    assert count == sum(p.numel() for p in build_pair().auxiliary.parameters())


# -- D4: the sensor is told from the private half


def test_d4_is_the_cross_entropy_of_a_linear_head_on_pooled_private_halves(build_pair, batch):
    method = build_pair("crodino-kd:d4").eval()
    with torch.no_grad():
        outputs = outputs_of(method, batch)
        found = method.disentanglement(outputs, batch).item()
    weight, bias = method.tell_sensor.weight.tolist(), method.tell_sensor.bias.tolist()
    terms = []
    for m, sensor in enumerate(PAIR):
        for private in outputs[sensor].private:
            pooled = [channel.mean().item() for channel in private]
            scores = [
                sum(w * v for w, v in zip(row, pooled, strict=True)) + b for row, b in zip(weight, bias, strict=True)
            ]
            terms.append(-math.log(softmax(scores)[m]))
    assert len(terms) == 16
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_d4_is_log_2_for_a_head_that_knows_nothing(build_pair, batch):
    method = build_pair("crodino-kd:d4")
    torch.nn.init.zeros_(method.tell_sensor.weight)
    torch.nn.init.zeros_(method.tell_sensor.bias)
    assert method.disentanglement(outputs_of(method, batch), batch).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", ["crodino-kd:d4", "crodino-mdico"])
def test_d4_trains_the_private_half_and_never_the_shared_one(name, build_pair, batch):
    """MDiCo's released code gives the head the shared half, which so learns to tell its sensor."""
    method = build_pair(name).train()
    for sensor in PAIR:
        shared, private = gradients(method(batch, 0.5)["overlap"], method, sensor)
        assert not shared.any()
        assert private.any()
    assert method.tell_sensor.weight.grad.any()


def test_the_head_of_d4_is_in_no_student(build_pair):
    students = {s: set(student.state_dict()) for s, student in build_pair().students.items()}
    assert {s: set(student.state_dict()) for s, student in build_pair("crodino-mdico").students.items()} == students


# -- named combinations


def test_crodino_mdico_is_x4_whole_images_at_full_weight_and_d4(build_pair, batch):
    method = build_pair("crodino-mdico").train()
    settings = method.settings
    assert (settings.auxiliary, settings.contrast, settings.disentanglement) == ("both", "image", "sensor")
    assert (settings.contrast_weight, settings.auxiliary_weight, settings.overlap_weight) == (1.0, 1.0, 1.0)
    assert (settings.contrast_warmup, settings.temperature, settings.augmentation) == (0.0, 0.1, "decoupled")
    assert set(METHODS["crodino-mdico"].settings) <= set(type(settings).model_fields)
    assert method.label_free == ("overlap", "contrast")


@pytest.mark.parametrize("name", ["crodino-kd:c2-full", "crodino-kd:c3-full", "crodino-mdico"])
def test_a_contrast_at_full_weight_has_it_from_the_first_step(name, build_pair, batch):
    method = build_pair(name).train()
    found = []
    for progress in (0.0, 0.9):
        torch.manual_seed(0)
        found.append(method(batch, progress)["contrast"].item())
    torch.manual_seed(0)
    assert found == [pytest.approx(method.contrast_loss(outputs_of(method, batch), batch).item(), rel=1e-5)] * 2
    assert found[0] > 0


# -- predicted: unlabelled scenes join the contrast by the students' confident classes


def test_predicted_contrasts_confident_classes_of_unlabelled_scenes_and_known_ones_of_the_others(build_pair, batch):
    method, given = build_pair("crodino-kd:predicted").eval(), hidden(batch, [1, 2, 5])
    outputs = outputs_of(method, given)
    for out in outputs.values():
        out.logits = 8 * out.logits / out.logits.std()  # some are above 0.9, some are not
    found, kinds = method.contrasted_labels(outputs, given), set()
    for sensor, scene in itertools.product(PAIR, range(8)):
        if scene not in (1, 2, 5):
            assert torch.equal(found[sensor][scene], batch.labels[sensor][scene])
            continue
        up = F.interpolate(outputs[sensor].logits, size=(48, 64), mode="bilinear", align_corners=False)[scene]
        for y, x in itertools.product(range(0, 48, 5), range(0, 64, 5)):
            probabilities = softmax(up[:, y, x].tolist())
            if abs(max(probabilities) - 0.9) < 1e-4:
                continue  # it hangs on rounding
            sure = batch.inside[sensor][scene, y, x] and max(probabilities) >= 0.9
            assert found[sensor][scene, y, x] == (probabilities.index(max(probabilities)) if sure else IGNORE)
            kinds.add((bool(batch.inside[sensor][scene, y, x]), bool(sure)))
    assert kinds == {(True, True), (True, False), (False, False)}
    expected = method.contrast(outputs, found)
    torch.testing.assert_close(method.contrast_loss(outputs, given), expected, rtol=0, atol=0)
    assert expected != method.contrast(outputs, given.labels)


def test_where_no_class_is_confident_predicted_is_the_default(build_pair, batch):
    given = hidden(batch, [0, 3])
    default, predicted = (build_pair(name).eval() for name in ("crodino-kd", "crodino-kd:predicted"))
    outputs = outputs_of(default, given)
    for out in outputs.values():
        out.logits = 0 * out.logits
    assert torch.equal(predicted.contrast_loss(outputs, given), default.contrast_loss(outputs, given))
    everywhere = build_pair(contrast_confidence=0.0).eval().contrasted_labels(outputs, given)
    assert all((everywhere[s][[0, 3]][given.inside[s][[0, 3]]] != IGNORE).all() for s in PAIR)


def test_only_the_contrast_counts_predicted_classes(build_pair, batch):
    method = build_pair("crodino-kd:predicted", contrast_confidence=0.0).train()
    terms = method(hidden(batch, list(range(8))), 0.5)
    assert {name for name, term in terms.items() if term.item() > 0} == {"overlap", "contrast"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"contrast_confidence": 1.1}, "contrast_confidence = 1.1: Input should be less than or equal to 1"),
        ({"contrast_confidence": -0.1}, "contrast_confidence = -0.1: Input should be greater than or equal to 0"),
        ({"contrast": "image", "contrast_confidence": 0.9}, "contrast_confidence 0.9 is for classes"),
        ({"contrast": "pixel", "contrast_confidence": 0.0}, "contrast_confidence 0.0 is for classes"),
    ],
)
def test_a_confidence_out_of_place_is_refused(settings, told, build_pair):
    with pytest.raises(ValueError, match=told):
        build_pair(**settings)


def test_without_the_predicted_classes_unlabelled_scenes_do_not_join(build_pair, batch):
    assert (
        losses.region_vectors(torch.rand(8, 4, 3, 4), hidden(batch, list(range(8))).labels["rgb"], 4).classes.numel()
        == 0
    )
    assert build_pair("crodino-kd").label_free == ("overlap",)
    assert build_pair("crodino-kd:predicted").label_free == ("overlap", "contrast")
