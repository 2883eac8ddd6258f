import numpy as np
import pandas as pd
import pytest
import torch

from crodino_lib.analysis.collapse import is_constant
from crodino_lib.analysis.similarity import cka as compute
from crodino_lib.analysis.similarity import linear_cka
from crodino_lib.losses import debiased_cka
from tests.analysis.factories import made, named, normal


def test_cka_has_its_golden_values():
    state = np.random.RandomState(1337)
    x = state.randn(100, 10)
    y = state.randn(100, 10) + x
    assert linear_cka(x, y, debiased=False) == pytest.approx(0.557613, abs=1e-6)
    assert linear_cka(x, y) == pytest.approx(0.513456, abs=1e-6)


def test_debiased_cka_is_what_its_equation_says():
    x, y = normal(0, n=9, d=3)[:2]
    n, x, y = 9, x - x.mean(axis=0), y - y.mean(axis=0)

    def debiased(a, b):
        norm = sum(sum(a[i, p] * b[i, q] for i in range(n)) ** 2 for p in range(3) for q in range(3))
        own = sum((a[i] @ a[i]) * (b[i] @ b[i]) for i in range(n))
        return norm - n / (n - 2) * own + (a**2).sum() * (b**2).sum() / ((n - 1) * (n - 2))

    expected = debiased(x, y) / np.sqrt(debiased(x, x) * debiased(y, y))
    assert linear_cka(x + 5, y - 2) == pytest.approx(expected)


def test_the_metric_agrees_with_the_loss():
    x, y = normal(3, n=60, d=8)[:2]
    loss = debiased_cka(torch.tensor(x, dtype=torch.float32), torch.tensor(y + x, dtype=torch.float32))
    assert linear_cka(x, y + x) == pytest.approx(loss.item(), abs=1e-5)


def test_bases_shifts_and_scales_are_of_no_account():
    x, y = normal(0)[:2]
    y = x[:, ::-1] ** 2 + y
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    assert linear_cka(1000 * x @ turn + 3, y) == pytest.approx(linear_cka(x, y), rel=1e-9)
    assert linear_cka(y, x) == pytest.approx(linear_cka(x, y))


def test_independent_blocks_have_no_debiased_cka_but_a_biased_one():
    latents = [normal(seed, 100, 64) for seed in range(10)]
    mean = pd.DataFrame([named(compute(made(blocks), np.random.default_rng(0))) for blocks in latents]).mean()
    assert set(mean.index) == {"cka shared", "cka private", "cka_halves rgb", "cka_halves thermal"}
    assert (mean.abs() < 0.03).all()
    assert np.mean([linear_cka(*blocks[:2], debiased=False) for blocks in latents]) > 0.3


def test_every_number_is_of_the_blocks_it_names():
    a, b, c, _ = normal(0, 400)
    values = named(compute(made([a, 2 * a + 1, b, c]), np.random.default_rng(0)))
    assert values.pop("cka shared") == pytest.approx(1, abs=1e-5)
    assert max(map(abs, values.values())) < 0.05
    values = named(compute(made([a, b, a, c]), np.random.default_rng(0)))
    assert values["cka_halves rgb"] == pytest.approx(1, abs=1e-5)
    assert values["cka_halves thermal"] < 0.05


def test_orthogonal_halves_can_hold_the_same():
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, 500)
    s, p = np.stack([np.cos(t), np.sin(t)], axis=1), np.stack([-np.sin(t), np.cos(t)], axis=1)
    assert linear_cka(s, p, debiased=False) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_half_has_no_cka(value):
    blocks = normal(0)
    blocks[2] = np.full_like(blocks[2], value)
    found = named(compute(made(blocks), np.random.default_rng(0)))
    missing = {name for name, result in found.items() if np.isnan(result)}
    assert missing == {"cka private", "cka_halves rgb"}


def test_too_few_rows_have_no_cka():
    x, y = normal(0)[:2]
    assert np.isnan(linear_cka(x[:3], y[:3]))
    assert is_constant(x[:1])
    assert not is_constant(x[:2])


def test_rounding_alone_is_no_variation():
    x = np.full((80, 6), 0.1, np.float32)
    x[::2] = np.nextafter(np.float32(0.1), np.float32(1))
    assert is_constant(x)
    assert not is_constant(x + np.float32(1e-4) * normal(0)[0])
    assert np.isnan(linear_cka(x, normal(0)[1]))


def test_shuffled_rows_lose_their_cka():
    a, _, b, c = normal(0, 400)
    shuffled = np.random.default_rng(1).permutation(a)
    assert abs(named(compute(made([a, shuffled, b, c]), np.random.default_rng(0)))["cka shared"]) < 0.02
