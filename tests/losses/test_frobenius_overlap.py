import pytest
import torch

from crodino_lib.losses.cosine_overlap import cosine_overlap
from crodino_lib.losses.frobenius_overlap import frobenius_overlap


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_rows(x):
    centre = [sum(row[c].item() for row in x) / len(x) for c in range(x.shape[1])]
    rows = [[row[c].item() - centre[c] for c in range(x.shape[1])] for row in x]
    return [[v / sum(u * u for u in row) ** 0.5 for v in row] for row in rows]


@pytest.mark.parametrize("width", [3, 5])
def test_equals_its_definition(width):
    shared, private = random(8, 5), random(8, width, seed=1) + 2
    s, p = unit_rows(shared), unit_rows(private)
    entries = [sum(s[n][i] * p[n][j] for n in range(8)) ** 2 for i in range(5) for j in range(width)]
    assert frobenius_overlap(shared, private).item() == pytest.approx(sum(entries) / len(entries) / 64, rel=1e-6)


def test_lies_between_zero_and_one_over_the_number_of_entries():
    """Largest where each half varies along one direction, and both along the same samples."""
    line = random(20, 1) @ random(1, 4, seed=1)
    assert frobenius_overlap(line, -3 * line).item() == pytest.approx(1 / 16)
    assert 0 < frobenius_overlap(random(20, 4), random(20, 4, seed=2)) < 1 / 16


def test_independent_halves_score_about_one_over_n_c_squared():
    scores = [frobenius_overlap(random(256, 8, seed=2 * k), random(256, 8, seed=2 * k + 1)).item() for k in range(20)]
    assert sum(scores) / 20 == pytest.approx(1 / (256 * 64), rel=0.1)


def test_unlike_the_cosine_it_sees_halves_that_determine_each_other():
    angle = torch.linspace(0, 6, 50, dtype=torch.float64)
    shared, private = torch.stack([angle.cos(), angle.sin()], dim=1), torch.stack([-angle.sin(), angle.cos()], dim=1)
    assert cosine_overlap(shared, private).abs().item() < 1e-12
    assert frobenius_overlap(shared, private).item() > 10 * frobenius_overlap(random(50, 2), random(50, 2, seed=9))


def test_gradients_reach_both_halves_and_a_step_lowers_it():
    shared, private = random(8, 4).requires_grad_(), random(8, 4, seed=1).requires_grad_()
    before = frobenius_overlap(shared, private)
    before.backward()
    assert frobenius_overlap(shared - shared.grad, private) < before
    assert frobenius_overlap(shared, private - private.grad) < before


@pytest.mark.parametrize("rows", [1, 6])
def test_a_constant_half_scores_zero_with_zero_gradients(rows):
    shared, private = torch.full((rows, 4), 0.5).requires_grad_(), torch.rand(rows, 4).requires_grad_()
    loss = frobenius_overlap(shared, private)
    loss.backward()
    assert loss.item() == 0
    assert not private.grad.any()
    assert shared.grad.isfinite().all()
