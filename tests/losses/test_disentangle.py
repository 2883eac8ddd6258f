"""Overlap and dependence of the halves, and ShaSpec's terms, against their definitions."""

import math

import numpy as np
import pytest
import torch

from crodino_lib.losses import (
    cosine_overlap,
    debiased_cka,
    frobenius_overlap,
    modality_cross_entropy,
    shared_distance,
)
from tests.losses.helpers import normal, uniform


class TestCosineOverlap:
    def test_equals_its_definition(self):
        shared, private = uniform(2, 5, 3, 4), uniform(2, 5, 3, 4, seed=1)
        pairs = [(half.movedim(1, -1).reshape(-1, 5)) for half in (shared, private)]
        cosines = [(s @ p / (s.norm() * p.norm())).item() for s, p in zip(*pairs, strict=True)]
        assert cosine_overlap(shared, private).item() == pytest.approx(sum(cosines) / len(cosines), rel=1e-9)

    def test_lies_between_zero_for_disjoint_channels_and_one_for_equal_directions(self):
        features = uniform(1, 4, 2, 2) + 0.1
        upper, lower = features.clone(), features.clone()
        upper[:, 2:], lower[:, :2] = 0, 0
        assert cosine_overlap(upper, lower).item() == 0
        assert cosine_overlap(features, 3 * features).item() == pytest.approx(1)
        assert 0 <= cosine_overlap(features, uniform(1, 4, 2, 2, seed=3)) <= 1


def unit_rows(x):
    centre = [sum(row[c].item() for row in x) / len(x) for c in range(x.shape[1])]
    rows = [[row[c].item() - centre[c] for c in range(x.shape[1])] for row in x]
    return [[v / sum(u * u for u in row) ** 0.5 for v in row] for row in rows]


class TestFrobeniusOverlap:
    @pytest.mark.parametrize("width", [3, 5])
    def test_equals_its_definition(self, width):
        shared, private = normal(8, 5), normal(8, width, seed=1) + 2
        s, p = unit_rows(shared), unit_rows(private)
        entries = [sum(s[n][i] * p[n][j] for n in range(8)) ** 2 for i in range(5) for j in range(width)]
        assert frobenius_overlap(shared, private).item() == pytest.approx(sum(entries) / len(entries) / 64, rel=1e-6)

    def test_lies_between_zero_and_one_over_the_number_of_entries(self):
        """Largest where each half varies along one direction, and both along the same samples."""
        line = normal(20, 1) @ normal(1, 4, seed=1)
        assert frobenius_overlap(line, -3 * line).item() == pytest.approx(1 / 16)
        assert 0 < frobenius_overlap(normal(20, 4), normal(20, 4, seed=2)) < 1 / 16

    def test_independent_halves_score_about_one_over_n_c_squared(self):
        scores = [
            frobenius_overlap(normal(256, 8, seed=2 * k), normal(256, 8, seed=2 * k + 1)).item() for k in range(20)
        ]
        assert sum(scores) / 20 == pytest.approx(1 / (256 * 64), rel=0.1)

    def test_unlike_the_cosine_it_sees_halves_that_determine_each_other(self):
        angle = torch.linspace(0, 6, 50, dtype=torch.float64)
        shared, private = (
            torch.stack([angle.cos(), angle.sin()], dim=1),
            torch.stack([-angle.sin(), angle.cos()], dim=1),
        )
        assert cosine_overlap(shared, private).abs().item() < 1e-12
        assert frobenius_overlap(shared, private).item() > 10 * frobenius_overlap(normal(50, 2), normal(50, 2, seed=9))

    @pytest.mark.parametrize("rows", [1, 6])
    def test_a_constant_half_scores_zero_with_zero_gradients(self, rows):
        shared, private = torch.full((rows, 4), 0.5).requires_grad_(), torch.rand(rows, 4).requires_grad_()
        loss = frobenius_overlap(shared, private)
        loss.backward()
        assert loss.item() == 0
        assert not private.grad.any()
        assert shared.grad.isfinite().all()


def demo():
    """The data of the reference demo."""
    generator = np.random.RandomState(1337)
    x = generator.randn(100, 10)
    return torch.tensor(x), torch.tensor(generator.randn(100, 10) + x)


def biased_cka(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return (x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())


def unbiased_hsic(x, y):
    """Song et al.'s unbiased HSIC of the linear kernels, in loops."""
    n = len(x)
    k, other = ([[0.0 if i == j else (v[i] @ v[j]).item() for j in range(n)] for i in range(n)] for v in (x, y))
    trace = sum(k[i][j] * other[j][i] for i in range(n) for j in range(n))
    sums = sum(map(sum, k)) * sum(map(sum, other))
    mixed = sum(k[i][j] * other[j][m] for i in range(n) for j in range(n) for m in range(n))
    return (trace + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * mixed) / (n * (n - 3))


class TestDebiasedCKA:
    def test_golden_values_of_the_reference_demo(self):
        assert debiased_cka(*demo()).item() == pytest.approx(0.513456, abs=1e-6)
        assert biased_cka(*demo()).item() == pytest.approx(0.557613, abs=1e-6)  # that it is the same data

    @pytest.mark.parametrize("rows", [4, 11])
    def test_equals_normalised_unbiased_hsic(self, rows):
        x, y = normal(rows, 5), normal(rows, 3, seed=1) + 4
        expected = unbiased_hsic(x, y) / (unbiased_hsic(x, x) * unbiased_hsic(y, y)) ** 0.5
        assert debiased_cka(x, y).item() == pytest.approx(expected, rel=1e-6)

    def test_independent_features_score_about_zero_where_the_plain_cka_does_not(self):
        x, y = normal(100, 128), normal(100, 128, seed=1)
        assert biased_cka(x, y) > 0.5
        assert abs(debiased_cka(x, y).item()) < 0.03

    def test_is_one_for_equal_features_and_unchanged_by_rotation_shift_and_scale(self):
        x, y = normal(20, 6), normal(20, 6, seed=1)
        rotation = torch.linalg.qr(normal(6, 6, seed=2))[0]
        assert debiased_cka(x, -5 * x @ rotation + 3).item() == pytest.approx(1)
        assert debiased_cka(1e3 * x @ rotation - 7, y).item() == pytest.approx(debiased_cka(x, y).item())

    def test_float32_agrees_with_float64_on_features_far_from_zero(self):
        x, y = demo()
        found = debiased_cka(x.float() + 30, 1e-4 * y.float())
        assert found.item() == pytest.approx(0.513456, abs=1e-4)

    def test_its_gradient_is_that_of_finite_differences(self):
        x, y = normal(7, 3).requires_grad_(), normal(7, 4, seed=1).requires_grad_()
        assert torch.autograd.gradcheck(debiased_cka, (x, y))

    @pytest.mark.parametrize("value", [0.0, 0.1, 3e4])
    def test_a_constant_side_scores_zero_with_zero_gradients(self, value):
        x, y = torch.full((300, 4), value).requires_grad_(), normal(300, 4).float().requires_grad_()
        for loss in (debiased_cka(x, y), debiased_cka(y, x), debiased_cka(x, x)):
            loss.backward()
            assert loss.item() == 0
            assert not x.grad.any()
            assert not y.grad.any() if y.grad is not None else True

    def test_rejects_fewer_than_four_rows(self):
        with pytest.raises(ValueError, match="at least 4 rows, got x with 3"):
            debiased_cka(normal(3, 2), normal(3, 2))


class TestSharedSpecific:
    @pytest.mark.parametrize(
        ("count", "pairs"),
        [(1, []), (2, [(0, 1)]), (3, [(0, 1), (1, 2), (2, 0)]), (4, [(0, 1), (1, 2), (2, 3), (3, 0)])],
    )
    def test_distance_equals_its_definition_over_a_cycle_of_pairs(self, count, pairs):
        features = [normal(2, 3, 2, 2, seed=seed) for seed in range(count)]
        errors = [
            abs(a - b) for i, j in pairs for a, b in zip(features[i].flatten(), features[j].flatten(), strict=True)
        ]
        assert shared_distance(features).item() == pytest.approx(float(sum(errors)) / 24, rel=1e-6)
        assert shared_distance([features[0]] * count).item() == 0

    @pytest.mark.parametrize("modalities", [None, [2, 0, 1], [1, 1, 2]])
    def test_modality_cross_entropy_equals_its_definition(self, modalities):
        logits = list(normal(3, 4, 3))
        total = 0.0
        for entry, m in zip(logits, modalities or [0, 1, 2], strict=True):
            for row in entry.tolist():
                total += (math.log(sum(map(math.exp, row))) - row[m]) / 12
        assert modality_cross_entropy(logits, modalities).item() == pytest.approx(total, rel=1e-6)

    def test_golden_values_and_an_absent_modality(self):
        right, cannot_tell = torch.tensor([[-10.0, 10.0]]), torch.zeros(1, 2)
        assert modality_cross_entropy([cannot_tell, cannot_tell]).item() == pytest.approx(0.693147, rel=1e-6)
        assert modality_cross_entropy([right], [1]).item() == pytest.approx(0, abs=1e-6)
        assert modality_cross_entropy([right]).item() == pytest.approx(20, rel=1e-6)

    def test_every_entry_needs_its_modality(self):
        with pytest.raises(ValueError, match="zip"):
            modality_cross_entropy([torch.zeros(1, 2)], [0, 1])
