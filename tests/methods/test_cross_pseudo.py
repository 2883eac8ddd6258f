"""Cross pseudo supervision: each student learns the other's most likely classes, and only as a target."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from crodino_lib.data.sample import IGNORE
from crodino_lib.methods.registry import build_method
from tests.losses.helpers import softmax
from tests.methods.conftest import batch_for, run_of

SENSORS = ("rgb", "depth")
OTHER = dict(zip(SENSORS, reversed(SENSORS), strict=True))


@pytest.fixture
def build(toy_card):
    return lambda **settings: build_method(run_of("cross-pseudo", SENSORS, **settings), toy_card)


def small(batch):
    """Every sixth pixel of two scenes' labels: loops are slow."""
    return {s: label[:2, ::6, ::6] for s, label in batch.items()}


@pytest.mark.parametrize("weight", [1.5, 0.5])
def test_its_terms_are_those_of_the_equation(weight, build, toy_scenes):
    method = build(weight=weight).eval()
    batch = batch_for(method, toy_scenes)
    given = replace(
        batch,
        images={s: image[:2] for s, image in batch.images.items()},
        labels=small(batch.labels),
        inside=small(batch.inside),
    )
    given.labels["rgb"][1] = given.labels["depth"][1] = IGNORE  # an unlabelled scene
    with torch.no_grad():
        terms = method(given, 0.5)
        logits = {s: method.students[s](given.images[s]).logits for s in SENSORS}
    up = {s: F.interpolate(part, size=(8, 11), mode="bilinear", align_corners=False) for s, part in logits.items()}
    probabilities = {
        s: {
            (b, y, x): softmax(part[b, :, y, x].tolist())
            for b, y, x in itertools.product(range(2), range(8), range(11))
        }
        for s, part in up.items()
    }
    assert set(terms) == {f"{kind}/{s}" for kind in ("segmentation", "pseudo") for s in SENSORS}
    for sensor, other in OTHER.items():
        labels, inside = given.labels[sensor], given.inside[sensor]
        known = [-math.log(p[labels[at]]) for at, p in probabilities[sensor].items() if labels[at] != IGNORE]
        told = [
            -math.log(p[max(range(4), key=probabilities[other][at].__getitem__)])
            for at, p in probabilities[sensor].items()
            if inside[at]
        ]
        assert len(told) > len(known) > 0
        assert terms[f"segmentation/{sensor}"].item() == pytest.approx(sum(known) / len(known), rel=1e-4)
        assert terms[f"pseudo/{sensor}"].item() == pytest.approx(weight * sum(told) / len(told), rel=1e-4)


def test_its_weight_rises_over_the_first_half_of_the_run(build, toy_scenes):
    method = build().eval()
    batch = batch_for(method, toy_scenes)
    with torch.no_grad():
        found = [method(batch, progress)["pseudo/rgb"].item() for progress in (0.0, 0.25, 0.5, 0.9)]
        at_once = build(warmup=0.0).eval()(batch, 0.0)["pseudo/rgb"].item()
    assert found == [0, pytest.approx(found[3] / 2), pytest.approx(found[3]), found[3]]
    assert at_once == pytest.approx(found[3])


@pytest.mark.parametrize("sensor", SENSORS)
def test_the_other_student_is_a_target_and_gets_no_gradient(sensor, build, toy_scenes):
    method = build().train()
    method(batch_for(method, toy_scenes), 0.5)[f"pseudo/{sensor}"].backward()
    assert any(p.grad is not None and p.grad.any() for p in method.students[sensor].parameters())
    assert all(p.grad is None for p in method.students[OTHER[sensor]].parameters())


def test_both_views_show_the_same_pixels(build, toy_scenes):
    method = build()
    batch = batch_for(method, toy_scenes)
    assert torch.equal(batch.warps["rgb"], batch.warps["depth"])
    assert torch.equal(batch.inside["rgb"], batch.inside["depth"])


def test_without_weight_no_term_is_left_for_unlabelled_scenes(build):
    assert build().label_free == ("pseudo/rgb", "pseudo/depth")
    assert build(weight=0.0).label_free == ()
