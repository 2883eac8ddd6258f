import numpy as np
import pytest

from crodino_lib.analysis.orthogonality import (
    compute,
    cosine_floor,
    cross_covariance,
    mean_cosine,
    principal_angles,
    shuffled_cosine,
)
from tests.analysis.factories import made, normal


@pytest.mark.parametrize(("d", "floor"), [(64, 0.100), (128, 0.071), (256, 0.050)])
def test_random_directions_have_the_cosine_of_the_floor(d, floor):
    x, y = normal(0, 2000, d)[:2]
    assert cosine_floor(x, y) == pytest.approx(floor, abs=5e-4)
    assert mean_cosine(x, y) == pytest.approx(floor, rel=0.05)
    assert shuffled_cosine(x, y, np.arange(2000)) == pytest.approx(floor, rel=0.02)


def test_rectified_features_share_an_orthant():
    x, y = (np.maximum(block, 0) for block in normal(0, 2000, 128)[:2])
    assert cosine_floor(x, y) == pytest.approx(1 / np.pi)
    assert mean_cosine(x, y) == pytest.approx(0.32, abs=0.01)
    assert shuffled_cosine(x, y, np.arange(2000)) == pytest.approx(0.32, abs=0.01)
    assert cosine_floor(x, y - 1) == pytest.approx(np.sqrt(2 / (np.pi * 128)))


def test_orthogonal_halves_can_be_wholly_redundant():
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, 2000)
    s, p = np.stack([np.cos(t), np.sin(t)], axis=1), np.stack([-np.sin(t), np.cos(t)], axis=1)
    found = compute(made([s, s, p, p]), 2000, np.random.default_rng(0))
    assert found["cosine rgb"] == pytest.approx(0, abs=1e-6)
    assert found["cosine_ratio rgb"] == pytest.approx(0, abs=1e-6)
    assert found["cross_covariance rgb"] == pytest.approx(1, abs=1e-2)


def test_cosines_are_what_their_equations_say():
    x, y = normal(0, n=8, d=3)[:2]
    images = np.array([0, 0, 1, 1, 1, 2, 2, 0])

    def cosine(i, j):
        return abs(x[i] @ y[j]) / np.sqrt((x[i] @ x[i]) * (y[j] @ y[j]))

    others = [cosine(i, j) for i in range(8) for j in range(8) if images[i] != images[j]]
    assert mean_cosine(x, y) == pytest.approx(np.mean([cosine(i, i) for i in range(8)]))
    assert mean_cosine(7 * x, -y) == pytest.approx(mean_cosine(x, y))
    assert shuffled_cosine(x, y, images) == pytest.approx(np.mean(others))


def test_cross_covariance_is_what_its_equation_says():
    x, y = normal(0, n=8, d=3)[:2]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)

    def norm(a, b):
        return np.sqrt(sum(sum(a[i, p] * b[i, q] for i in range(8)) ** 2 for p in range(3) for q in range(3)))

    assert cross_covariance(x + 1, y) == pytest.approx(norm(x, y) / np.sqrt(norm(x, x) * norm(y, y)))


def test_subspaces_have_the_angles_they_were_given():
    scores = normal(0, 300, 2)[0]
    tilt = np.radians(30)
    x = scores @ np.array([[1, 0, 0, 0], [0, 1, 0, 0]])
    y = normal(1, 300, 2)[0] @ np.array([[1, 0, 0, 0], [0, np.cos(tilt), np.sin(tilt), 0]])
    np.testing.assert_allclose(principal_angles(x, y), [30, 0], atol=1e-5)
    found = compute(made([x, x, y, scores @ np.eye(4)[2:]]), 300, np.random.default_rng(0))
    assert found["angle_largest rgb"] == pytest.approx(30, abs=1e-3)
    assert found["angle_mean rgb"] == pytest.approx(15, abs=1e-3)
    assert found["angle_mean thermal"] == pytest.approx(90, abs=1e-3)


def test_equal_halves_lie_in_one_direction_and_disjoint_channels_in_none():
    a, b, c, _ = (np.abs(block) for block in normal(0, 400))
    left, right = np.concatenate([b, 0 * b], axis=1), np.concatenate([0 * c, c], axis=1)
    a = np.concatenate([a, a], axis=1)
    found = compute(made([a, left, a, right]), 400, np.random.default_rng(0))
    assert found["cosine rgb"] == pytest.approx(1)
    assert found["cosine_ratio rgb"] == pytest.approx(np.pi)
    assert found["cosine_shuffled rgb"] < 0.9
    assert found["cross_covariance rgb"] == pytest.approx(1)
    assert found["angle_largest rgb"] == pytest.approx(0, abs=1e-3)
    assert found["cosine thermal"] == found["cosine_shuffled thermal"] == 0
    assert found["angle_largest thermal"] == pytest.approx(90)
    assert found["cross_covariance thermal"] < 0.2


def test_the_sensors_are_never_compared():
    blocks = normal(0)
    before = compute(made(blocks), 80, np.random.default_rng(0))
    order = np.random.default_rng(1).permutation(20).repeat(4) * 4 + np.tile(np.arange(4), 20)
    blocks[1], blocks[3] = blocks[1][order], blocks[3][order]
    assert compute(made(blocks), 80, np.random.default_rng(0)) == pytest.approx(before, rel=1e-5)


def test_a_constant_half_has_a_direction_but_no_subspace_and_zeros_have_neither():
    blocks = normal(0)
    blocks[2], blocks[3] = np.full_like(blocks[2], 0.1), 0 * blocks[3]
    found = compute(made(blocks), 80, np.random.default_rng(0))
    missing = {name for name, value in found.items() if np.isnan(value)}
    spatial = ("cross_covariance", "angle_largest", "angle_mean")
    assert missing == {f"{name} rgb" for name in spatial} | {
        f"{name} thermal" for name in (*spatial, "cosine", "cosine_ratio", "cosine_shuffled")
    }


def test_one_image_has_no_other_images_to_shuffle_with():
    found = compute(made(normal(0), per_image=80), 80, np.random.default_rng(0))
    missing = {name for name, value in found.items() if np.isnan(value)}
    assert missing == {"cosine_shuffled rgb", "cosine_shuffled thermal"}
