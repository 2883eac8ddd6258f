import numpy as np
import pytest

from crodino_lib.analysis.uniformity import alignment, compute, tolerance, uniformity
from tests.analysis.factories import made, normal


def test_alignment_and_uniformity_have_their_golden_values():
    e1, e2 = np.eye(2)
    assert alignment(np.stack([e1, e2]), np.stack([e2, e2])) == pytest.approx(1.0)
    assert uniformity(np.stack([e1, e2])) == pytest.approx(-4.0)


def test_alignment_and_uniformity_are_what_their_equations_say():
    u, v = normal(0, n=8, d=3)[:2]
    x, y = ([row / np.sqrt(row @ row) for row in block] for block in (u, v))
    assert alignment(u, v) == pytest.approx(np.mean([sum((x[i] - y[i]) ** 2) for i in range(8)]))
    potentials = [np.exp(-2 * sum((x[i] - x[j]) ** 2)) for i in range(8) for j in range(i)]
    assert uniformity(u) == pytest.approx(np.log(np.mean(potentials)))


def test_tolerance_is_the_mean_over_pairs_of_a_class():
    u = normal(0, n=9, d=3)[0]
    classes = np.array([0, 0, 1, 1, 1, 2, 255, 255, 0])
    x = [row / np.sqrt(row @ row) for row in u]
    pairs = [(i, j) for i in range(9) for j in range(i) if classes[i] == classes[j] != 255]
    assert tolerance(u, classes) == pytest.approx(np.mean([x[i] @ x[j] for i, j in pairs]))


def test_turning_both_sensors_and_scaling_rows_change_nothing():
    u, v = normal(0)[:2]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    lengths = np.random.default_rng(2).uniform(0.5, 2, (80, 1))
    assert alignment(lengths * u @ turn, v @ turn) == pytest.approx(alignment(u, v))
    assert uniformity(lengths * u @ turn) == pytest.approx(uniformity(u))


def test_equal_halves_are_aligned_and_independent_ones_are_not():
    a, b, c, _ = normal(0, 400, 64)
    found = compute(made([a, 3 * a, b, c]), 400, np.random.default_rng(0))
    assert found["alignment shared"] == pytest.approx(0, abs=1e-6)
    assert found["alignment private"] == pytest.approx(2, abs=0.05)
    assert found["uniformity rgb/shared"] == pytest.approx(-4, abs=0.2)  # nearly orthogonal in 64 dimensions
    assert found["tolerance rgb/shared"] == pytest.approx(0, abs=0.02)


def test_classes_with_a_direction_of_their_own_are_tolerant():
    blocks = normal(0)
    blocks[0] = np.eye(6)[np.arange(80) % 4]
    found = compute(made(blocks), 80, np.random.default_rng(0))
    assert found["tolerance rgb/shared"] == pytest.approx(1)
    assert abs(found["tolerance thermal/shared"]) < 0.1
    assert found["uniformity rgb/shared"] == pytest.approx(np.log((60 * np.exp(-4) + 19) / 79))


def test_collapse_is_full_alignment_without_uniformity():
    found = compute(made([np.full((80, 6), 0.1)] * 4), 80, np.random.default_rng(0))
    assert found["alignment shared"] == pytest.approx(0, abs=1e-9)
    assert found["uniformity rgb/shared"] == pytest.approx(0, abs=1e-6)
    assert found["tolerance rgb/shared"] == pytest.approx(1)


def test_a_half_of_zeros_has_no_directions():
    blocks = normal(0)
    blocks[2] = 0 * blocks[2]
    found = compute(made(blocks), 80, np.random.default_rng(0))
    missing = {name for name, value in found.items() if np.isnan(value)}
    assert missing == {"alignment private", "uniformity rgb/private", "tolerance rgb/private"}


def test_one_row_is_aligned_but_neither_uniform_nor_tolerant():
    found = compute(made(normal(0, n=1)), 1, np.random.default_rng(0))
    assert found["alignment shared"] > 0
    assert np.isnan(found["uniformity rgb/shared"])
    assert np.isnan(found["tolerance rgb/shared"])


def test_shuffled_rows_lose_their_alignment_but_not_their_uniformity():
    a, _, b, c = normal(0, 400)
    true, shuffled = made([a, a, b, c]), made([a, np.random.default_rng(1).permutation(a), b, c])
    one, other = (compute(latents, 400, np.random.default_rng(0)) for latents in (true, shuffled))
    assert one["alignment shared"] == 0
    assert other["alignment shared"] == pytest.approx(2, abs=0.2)
    assert one["uniformity thermal/shared"] == pytest.approx(other["uniformity thermal/shared"])
