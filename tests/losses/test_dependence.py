import numpy as np
import pytest
import torch

from crodino_lib.losses.dependence import debiased_cka


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


def test_golden_values_of_the_reference_demo():
    assert debiased_cka(*demo()).item() == pytest.approx(0.513456, abs=1e-6)
    assert biased_cka(*demo()).item() == pytest.approx(0.557613, abs=1e-6)  # that it is the same data


@pytest.mark.parametrize("rows", [4, 11])
def test_equals_normalised_unbiased_hsic(rows):
    x, y = random(rows, 5), random(rows, 3, seed=1) + 4
    expected = unbiased_hsic(x, y) / (unbiased_hsic(x, x) * unbiased_hsic(y, y)) ** 0.5
    assert debiased_cka(x, y).item() == pytest.approx(expected, rel=1e-6)


def test_independent_features_score_about_zero_where_the_plain_cka_does_not():
    x, y = random(100, 128), random(100, 128, seed=1)
    assert biased_cka(x, y) > 0.5
    assert abs(debiased_cka(x, y).item()) < 0.03


def test_is_one_for_equal_features_and_unchanged_by_rotation_shift_and_scale():
    x, y = random(20, 6), random(20, 6, seed=1)
    rotation = torch.linalg.qr(random(6, 6, seed=2))[0]
    assert debiased_cka(x, -5 * x @ rotation + 3).item() == pytest.approx(1)
    assert debiased_cka(1e3 * x @ rotation - 7, y).item() == pytest.approx(debiased_cka(x, y).item())


def test_float32_agrees_with_float64_on_features_far_from_zero():
    x, y = demo()
    found = debiased_cka(x.float() + 30, 1e-4 * y.float())
    assert found.item() == pytest.approx(0.513456, abs=1e-4)


def test_its_gradient_is_that_of_finite_differences():
    x, y = random(7, 3).requires_grad_(), random(7, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(debiased_cka, (x, y))


@pytest.mark.parametrize("value", [0.0, 0.1, 3e4])
def test_a_constant_side_scores_zero_with_zero_gradients(value):
    x, y = torch.full((300, 4), value).requires_grad_(), random(300, 4).float().requires_grad_()
    for loss in (debiased_cka(x, y), debiased_cka(y, x), debiased_cka(x, x)):
        loss.backward()
        assert loss.item() == 0
        assert not x.grad.any()
        assert not y.grad.any() if y.grad is not None else True


def test_rejects_fewer_than_four_rows():
    with pytest.raises(ValueError, match="at least 4 rows, got x with 3"):
        debiased_cka(random(3, 2), random(3, 2))
