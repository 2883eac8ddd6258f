import numpy as np
import pandas as pd
import pytest
import torch

from crodino_lib.analysis.cka import compute, is_constant, linear_cka, principal_components, whitened_cka
from crodino_lib.analysis.extraction import Latents
from crodino_lib.losses import debiased_cka
from tests.analysis.factories import made, normal


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
    for measure in (linear_cka, whitened_cka):
        assert measure(1000 * x @ turn + 3, y) == pytest.approx(measure(x, y), rel=1e-9)
        assert measure(y, x) == pytest.approx(measure(x, y))


def test_independent_blocks_have_no_debiased_cka_but_a_biased_one():
    found = [compute(made(normal(seed, 100, 64)), 100, np.random.default_rng(0)) for seed in range(10)]
    mean = pd.DataFrame(found).mean()
    for where in ("shared", "private", "rgb", "thermal"):
        assert abs(mean[f"cka {where}"]) < 0.03
        assert abs(mean[f"cka_whitened {where}"]) < 0.03
        assert mean[f"cka_biased {where}"] > 0.3


def test_every_number_is_of_the_blocks_it_names():
    a, b, c, _ = normal(0, 400)
    found = compute(made([a, 2 * a + 1, b, c]), 400, np.random.default_rng(0))
    for measure in ("cka", "cka_biased", "cka_whitened"):
        assert found[f"{measure} shared"] == pytest.approx(1, abs=1e-5)
        assert max(abs(found[f"{measure} {where}"]) for where in ("private", "rgb", "thermal")) < 0.05
    found = compute(made([a, b, a, c]), 400, np.random.default_rng(0))
    assert found["cka rgb"] == pytest.approx(1, abs=1e-5)
    assert found["cka thermal"] < 0.05


def test_orthogonal_halves_can_hold_the_same():
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, 500)
    s, p = np.stack([np.cos(t), np.sin(t)], axis=1), np.stack([-np.sin(t), np.cos(t)], axis=1)
    assert linear_cka(s, p, debiased=False) == pytest.approx(1, abs=1e-3)


def test_a_strong_direction_decides_cka_but_not_its_whitened_form():
    generator = np.random.default_rng(0)
    rest_x, rest_y, common = generator.normal(size=(3, 500, 10))
    x = np.concatenate([4 * common[:, :1], rest_x], axis=1)
    y = np.concatenate([4 * common[:, :1], rest_y], axis=1)
    assert linear_cka(x, y) > 0.9
    assert whitened_cka(x, y) == pytest.approx(1 / 11, abs=0.02)  # one of eleven directions
    found = compute(made([x, y, x, x]), 500, np.random.default_rng(0))
    assert found["cka_whitened shared"] == pytest.approx(whitened_cka(x, y), abs=1e-4)


def test_principal_components_hold_the_variance_they_should():
    x = normal(0)[0] * [10, 5, 2, 1, 0.1, 0.01]
    scores, directions = principal_components(x)
    centred = x - x.mean(axis=0)
    kept = [np.sum((centred @ directions[:, :r]) ** 2) / np.sum(centred**2) for r in range(1, scores.shape[1] + 1)]
    assert kept[-1] >= 0.95 > kept[-2]
    np.testing.assert_allclose(scores.T @ scores, np.eye(len(kept)), atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_half_has_no_cka(value):
    blocks = normal(0)
    blocks[2] = np.full_like(blocks[2], value)
    found = compute(made(blocks), 80, np.random.default_rng(0))
    missing = {name for name, result in found.items() if np.isnan(result)}
    measures = ("cka", "cka_biased", "cka_whitened")
    assert missing == {f"{measure} {where}" for measure in measures for where in ("private", "rgb")}


def test_too_few_rows_have_no_cka():
    x, y = normal(0)[:2]
    assert np.isnan(linear_cka(x[:3], y[:3]))
    wide = normal(0, n=5, d=100)
    assert np.isnan(whitened_cka(*wide[:2]))  # as many components as rows leave nothing
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
    assert abs(compute(made([a, shuffled, b, c]), 400, np.random.default_rng(0))["cka shared"]) < 0.02


@pytest.mark.parametrize("n", [0, -1])
def test_no_rows_are_an_error(n):
    with pytest.raises(ValueError, match=f"n = {n} of 80 rows leaves nothing"):
        compute(made(normal(0)), n, np.random.default_rng(0))


def test_a_missing_half_is_an_error():
    latents = made(normal(0))
    blocks = {name: block for name, block in latents.blocks.items() if name != "thermal/private"}
    with pytest.raises(ValueError, match="no block thermal/private, only rgb/shared"):
        compute(Latents(blocks, latents.rows), 80, np.random.default_rng(0))
