"""What is known of the pixels of a batch: inside the scene, labelled, or predicted with confidence."""

import math

import pytest
import torch

from crodino_lib.data.sample import IGNORE
from crodino_lib.losses import cover, fill_unlabelled, likely_labels
from tests.losses.helpers import labels_with_holes, normal, softmax, uniform


def test_cover_is_the_share_of_each_cell_that_is_inside():
    inside = uniform(2, 8, 12) < 0.6
    found = cover(inside, (2, 3))
    for b, y, x in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(3)).tolist():
        pixels = [inside[b, 4 * y + i, 4 * x + j].item() for i in range(4) for j in range(4)]
        assert found[b, y, x].item() == pytest.approx(sum(pixels) / 16)


def test_an_unlabelled_scene_is_covered_like_a_labelled_one():
    assert cover(torch.ones(1, 8, 8, dtype=torch.bool), (2, 2)).tolist() == [[[1.0, 1.0], [1.0, 1.0]]]


class TestLikelyLabels:
    @pytest.mark.parametrize("confidence", [0.0, 0.5, 0.8])
    def test_equal_loops_over_pixels(self, confidence):
        logits, inside = 2 * normal(2, 4, 8, 12), uniform(2, 8, 12) < 0.7
        found, kinds = likely_labels(logits, inside, confidence), set()
        for b, y, x in torch.cartesian_prod(torch.arange(2), torch.arange(8), torch.arange(12)).tolist():
            probabilities = softmax(logits[b, :, y, x].tolist())
            sure = inside[b, y, x] and max(probabilities) >= confidence
            expected = probabilities.index(max(probabilities)) if sure else IGNORE
            assert found[b, y, x].item() == expected
            kinds.add(expected)
        assert kinds == {0, 1, 2, 3, IGNORE}

    def test_logits_are_enlarged_before_they_are_compared(self):
        """Between a cell of class 0 and one of class 1, both wide, the border lies in the middle."""
        logits = torch.tensor([[3.0, -3.0], [-3.0, 3.0]]).view(1, 2, 1, 2)
        found = likely_labels(logits, torch.ones(1, 4, 8, dtype=torch.bool))
        assert found[0].tolist() == 4 * [[0, 0, 0, 0, 1, 1, 1, 1]]

    def test_a_probability_equal_to_the_confidence_reaches_it_and_no_confidence_above_1_is_reached(self):
        logits, inside = torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool)
        logits[:, 1, 0] = 40.0  # certain in float32
        assert likely_labels(logits, inside, 0.5).eq(IGNORE).sum() == 0
        assert likely_labels(logits, inside, 1.0).eq(IGNORE).sum() == 12
        assert likely_labels(logits, inside, math.nextafter(1.1, 2)).eq(IGNORE).all()

    def test_carry_no_gradient(self):
        logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
        assert not likely_labels(logits, torch.ones(1, 4, 4, dtype=torch.bool)).requires_grad


class TestFillUnlabelled:
    def test_equals_a_loop_over_scenes(self):
        known, likely = labels_with_holes(batch=4), labels_with_holes(batch=4, seed=7)
        known[1], known[3] = IGNORE, IGNORE
        found = fill_unlabelled(known, likely)
        for scene in range(4):
            labelled = any(label != IGNORE for label in known[scene].flatten().tolist())
            assert torch.equal(found[scene], known[scene] if labelled else likely[scene])
        assert labelled is False  # the last one: both kinds were seen

    def test_one_known_pixel_makes_a_scene_a_labelled_one(self):
        known, likely = torch.full((1, 4, 4), IGNORE), torch.zeros(1, 4, 4, dtype=torch.int64)
        known[0, 0, 0] = 2
        assert torch.equal(fill_unlabelled(known, likely), known)
