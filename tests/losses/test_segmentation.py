"""Cross-entropy, reconstruction error and region pooling against their definitions."""

import math

import pytest
import torch
import torch.nn.functional as F

from crodino_lib.losses import masked_l1, region_vectors, region_weights, segmentation_cross_entropy
from tests.losses.helpers import labels_with_holes, uniform


class TestSegmentationCrossEntropy:
    def test_equals_its_definition_over_labelled_pixels(self):
        logits, labels = uniform(2, 4, 8, 12), labels_with_holes()
        terms = []
        for b, y, x in torch.nonzero(labels != 255).tolist():
            scores = logits[b, :, y, x]
            terms.append(math.log(sum(math.exp(s) for s in scores)) - scores[labels[b, y, x]].item())
        assert segmentation_cross_entropy(logits, labels).item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)

    def test_logits_are_enlarged_to_the_label(self):
        logits, labels = uniform(2, 4, 4, 6), labels_with_holes()
        enlarged = F.interpolate(logits, size=(8, 12), mode="bilinear", align_corners=False)
        assert segmentation_cross_entropy(logits, labels) == segmentation_cross_entropy(enlarged, labels)

    def test_ignored_pixels_get_no_gradient(self):
        logits = uniform(2, 4, 8, 12).requires_grad_()
        segmentation_cross_entropy(logits, labels_with_holes()).backward()
        assert not logits.grad[:, :, :2].any()
        assert logits.grad[:, :, 2:].any()

    def test_the_right_class_scores_lower_than_a_wrong_one(self):
        labels = torch.zeros(1, 4, 4, dtype=torch.int64)
        right = torch.tensor([5.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
        assert segmentation_cross_entropy(right, labels) < segmentation_cross_entropy(-right, labels)


class TestMaskedL1:
    def test_equals_its_definition_over_valid_pixels(self):
        prediction, target = uniform(2, 3, 4, 5), uniform(2, 3, 4, 5, seed=1)
        valid = uniform(2, 1, 4, 5, seed=2) > 0.4
        places = [(n, c, y, x) for n, _, y, x in torch.nonzero(valid).tolist() for c in range(3)]
        errors = [abs(prediction[place] - target[place]).item() for place in places]
        assert masked_l1(prediction, target, valid).item() == pytest.approx(sum(errors) / len(errors), rel=1e-9)

    def test_invalid_pixels_do_not_count(self):
        prediction, valid = uniform(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
        valid[..., 0] = False
        target = prediction.clone()
        target[..., 0] = 1e6
        assert masked_l1(prediction, target, valid).item() == 0


class TestRegionVectors:
    def test_equal_loops_over_pixels(self):
        """Every pixel carries the feature of its cell; a region is the mean over its pixels."""
        features, labels = uniform(2, 5, 2, 3), labels_with_holes()
        found = region_vectors(features, labels, num_classes=4, min_cells=0.5)
        expected = []
        for n in range(2):
            for k in range(4):
                pixels = [features[n, :, y // 4, x // 4] for y in range(8) for x in range(12) if labels[n, y, x] == k]
                if len(pixels) / 16 >= 0.5:  # a cell is 4 x 4 pixels
                    expected.append((n, k, torch.stack(pixels).mean(dim=0)))
        assert [(n, k) for n, k, _ in expected] == list(zip(found.images.tolist(), found.classes.tolist(), strict=True))
        torch.testing.assert_close(found.vectors, torch.stack([v for _, _, v in expected]))

    def test_a_class_smaller_than_the_smallest_region_is_left_out(self):
        labels = torch.zeros(1, 8, 8, dtype=torch.int64)
        labels[0, :4, :4] = 1  # exactly one cell
        labels[0, 7, 7] = 2  # a sixteenth of a cell
        assert region_vectors(torch.rand(1, 3, 2, 2), labels, 3).classes.tolist() == [0, 1]

    def test_weights_sum_to_the_labelled_share_of_each_cell(self):
        labels = labels_with_holes()
        share = F.adaptive_avg_pool2d((labels != 255).float()[:, None], (2, 3))
        torch.testing.assert_close(region_weights(labels, 4, (2, 3)).sum(dim=1, keepdim=True), share)

    def test_a_batch_without_labels_has_no_regions(self):
        assert len(region_vectors(torch.rand(1, 3, 2, 2), torch.full((1, 8, 8), 255), 3).vectors) == 0
