"""Segmentation, overlap, reconstruction and region pooling against their definitions."""

import math

import pytest
import torch
import torch.nn.functional as F

from crodino_lib.losses.cosine_overlap import cosine_overlap
from crodino_lib.losses.masked_l1 import masked_l1
from crodino_lib.losses.regions import region_vectors, region_weights
from crodino_lib.losses.segmentation import segmentation_cross_entropy


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels_with_holes(batch=2, height=8, width=12, classes=4):
    labels = torch.randint(classes, (batch, height, width), generator=torch.Generator().manual_seed(1))
    labels[:, :2] = 255
    return labels


class TestSegmentationCrossEntropy:
    def test_equals_its_definition_over_labelled_pixels(self):
        logits, labels = random(2, 4, 8, 12), labels_with_holes()
        total, count = 0.0, 0
        for b in range(2):
            for y in range(8):
                for x in range(12):
                    if labels[b, y, x] != 255:
                        scores = logits[b, :, y, x]
                        total += math.log(sum(math.exp(s) for s in scores)) - scores[labels[b, y, x]].item()
                        count += 1
        assert segmentation_cross_entropy(logits, labels).item() == pytest.approx(total / count, rel=1e-9)

    def test_logits_are_enlarged_to_the_label(self):
        logits, labels = random(2, 4, 4, 6), labels_with_holes()
        enlarged = F.interpolate(logits, size=(8, 12), mode="bilinear", align_corners=False)
        assert segmentation_cross_entropy(logits, labels) == segmentation_cross_entropy(enlarged, labels)

    def test_ignored_pixels_get_no_gradient(self):
        logits = random(2, 4, 8, 12).requires_grad_()
        segmentation_cross_entropy(logits, labels_with_holes()).backward()
        assert not logits.grad[:, :, :2].any()
        assert logits.grad[:, :, 2:].any()

    def test_a_batch_without_labels_scores_zero_with_zero_gradients(self):
        logits = random(1, 4, 8, 12).requires_grad_()
        loss = segmentation_cross_entropy(logits, torch.full((1, 8, 12), 255))
        loss.backward()
        assert loss.item() == 0
        assert not logits.grad.any()

    def test_the_right_class_scores_lower_than_a_wrong_one(self):
        labels = torch.zeros(1, 4, 4, dtype=torch.int64)
        right = torch.tensor([5.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
        assert segmentation_cross_entropy(right, labels) < segmentation_cross_entropy(-right, labels)


class TestCosineOverlap:
    def test_equals_its_definition(self):
        shared, private = random(2, 5, 3, 4), random(2, 5, 3, 4, seed=1)
        cosines = [
            (shared[n, :, y, x] @ private[n, :, y, x] / (shared[n, :, y, x].norm() * private[n, :, y, x].norm())).item()
            for n in range(2)
            for y in range(3)
            for x in range(4)
        ]
        assert cosine_overlap(shared, private).item() == pytest.approx(sum(cosines) / len(cosines), rel=1e-9)

    def test_lies_between_zero_for_disjoint_channels_and_one_for_equal_directions(self):
        features = random(1, 4, 2, 2) + 0.1
        upper, lower = features.clone(), features.clone()
        upper[:, 2:], lower[:, :2] = 0, 0
        assert cosine_overlap(upper, lower).item() == 0
        assert cosine_overlap(features, 3 * features).item() == pytest.approx(1)
        assert 0 <= cosine_overlap(features, random(1, 4, 2, 2, seed=3)) <= 1

    def test_a_step_against_its_gradient_separates_the_halves(self):
        shared, private = random(1, 4, 2, 2).requires_grad_(), random(1, 4, 2, 2, seed=1)
        before = cosine_overlap(shared, private)
        before.backward()
        assert cosine_overlap(shared - 0.1 * shared.grad, private) < before

    def test_zero_overlap_is_not_independence(self):
        """Orthogonal everywhere, and yet each half determines the other."""
        angle = torch.linspace(0, 6, 50, dtype=torch.float64)
        shared = torch.stack([angle.cos(), angle.sin()]).view(1, 2, 5, 10)
        private = torch.stack([-angle.sin(), angle.cos()]).view(1, 2, 5, 10)
        assert cosine_overlap(shared, private).abs().item() < 1e-12


class TestMaskedL1:
    def test_equals_its_definition_over_valid_pixels(self):
        prediction, target = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
        valid = random(2, 1, 4, 5, seed=2) > 0.4
        errors = [
            abs(prediction[n, c, y, x] - target[n, c, y, x]).item()
            for n in range(2)
            for c in range(3)
            for y in range(4)
            for x in range(5)
            if valid[n, 0, y, x]
        ]
        assert masked_l1(prediction, target, valid).item() == pytest.approx(sum(errors) / len(errors), rel=1e-9)

    def test_invalid_pixels_do_not_count(self):
        prediction, valid = random(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
        valid[..., 0] = False
        target = prediction.clone()
        target[..., 0] = 1e6
        assert masked_l1(prediction, target, valid).item() == 0

    def test_nothing_valid_is_zero_with_zero_gradients(self):
        prediction = random(1, 1, 4, 4).requires_grad_()
        loss = masked_l1(prediction, torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool))
        loss.backward()
        assert loss.item() == 0
        assert not prediction.grad.any()

    def test_a_nearer_prediction_scores_lower(self):
        target, valid = random(1, 2, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
        assert masked_l1(target + 0.1, target, valid) < masked_l1(target - 0.2, target, valid)


class TestRegionVectors:
    def test_equal_loops_over_pixels(self):
        """Every pixel carries the feature of its cell; a region is the mean over its pixels."""
        features, labels = random(2, 5, 2, 3), labels_with_holes()
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
