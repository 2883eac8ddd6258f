import numpy as np
import pytest

from crodino_lib.analysis.gap import compute, modality_gap, pair_kernel, scaled_gap, squared_mmd, swap_p
from tests.analysis.factories import made, normal


def test_the_gap_is_the_distance_of_mean_directions():
    u, v = np.array([[3.0, 0.0], [0.0, 5.0]]), np.array([[-1.0, 0.0], [0.0, -2.0]])
    assert modality_gap(u, v) == pytest.approx(np.sqrt(2))  # from (1/2, 1/2) to (-1/2, -1/2)
    assert scaled_gap(u, v) == pytest.approx(np.sqrt(2) / np.sqrt(0.5 + 0.5))  # each has variances 1/4 and 1/4
    assert modality_gap(u, -2 * v) == 0


def test_the_distance_of_distributions_is_what_its_equation_says():
    u, v = normal(0, n=6, d=3)[:2]
    x, y = ([row / np.sqrt(row @ row) for row in block] for block in (u, v))
    squared = [sum((a - b) ** 2) for i, a in enumerate(x + y) for b in (x + y)[:i]]

    def k(a, b):
        return np.exp(-sum((a - b) ** 2) / (2 * np.median(squared)))

    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    h = [k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i, j in pairs]
    assert squared_mmd(pair_kernel(u, v)) == pytest.approx(sum(h) / 30)


def test_exchanging_sensors_is_a_change_of_signs():
    u, v = normal(0, n=12, d=3)[:2]
    v, images = v + 0.3, np.repeat(np.arange(6), 2)
    true, generator, reached = squared_mmd(pair_kernel(u, v)), np.random.default_rng(3), 0
    for swaps in generator.choice([-1.0, 1.0], size=(99, 6)):
        swap = (swaps[images] < 0)[:, None]
        reached += squared_mmd(pair_kernel(np.where(swap, v, u), np.where(swap, u, v))) >= true - 1e-12
    assert 0 < reached < 60
    assert swap_p(pair_kernel(u, v), images, 99, np.random.default_rng(3)) == pytest.approx((1 + reached) / 100)


def test_equal_sensors_have_no_gap_and_the_largest_p():
    a, _, b, _ = normal(0)
    found = compute(made([a, 2 * a, b, b]), 80, np.random.default_rng(0), permutations=19)
    for half in ("shared", "private"):
        assert found[f"gap {half}"] == pytest.approx(0, abs=1e-6)
        assert found[f"gap_scaled {half}"] == pytest.approx(0, abs=1e-6)
        assert found[f"mmd2 {half}"] == pytest.approx(0, abs=1e-6)
    assert found["mmd_p private"] == 1


def test_sensors_in_cones_of_their_own_are_apart():
    a, b, c, e = normal(0)
    found = compute(made([a + 5 * np.eye(6)[0], b + 5 * np.eye(6)[1], c, e]), 80, np.random.default_rng(0), 99)
    assert found["gap shared"] > 1
    assert found["gap_scaled shared"] > 1
    assert found["mmd2 shared"] > 0.1 > 10 * abs(found["mmd2 private"])
    assert found["mmd_p shared"] == 0.01 < found["mmd_p private"]


def test_distributions_of_equal_means_can_be_told_apart():
    generator = np.random.default_rng(0)
    sides = generator.choice([-1, 1], size=(2, 200, 1))
    u, v = sides[0] * np.eye(3)[0] + 0.1 * normal(0, 200, 3)[0], sides[1] * np.eye(3)[1] + 0.1 * normal(1, 200, 3)[0]
    found = compute(made([u, v, u, u]), 200, generator, permutations=99)
    assert found["gap_scaled shared"] < 0.2
    assert found["mmd2 shared"] > 0.1
    assert found["mmd_p shared"] == 0.01


def test_one_distribution_has_p_values_of_every_size_whether_or_not_places_agree():
    def scene(generator):  # rows of an image are alike
        return np.repeat(generator.normal(size=(20, 3)), 4, axis=0) + 0.3 * generator.normal(size=(80, 3))

    for share in (0.0, 0.9):
        p, distances = [], []
        for seed in range(60):
            generator = np.random.default_rng(seed)
            place = share * scene(generator)
            h = pair_kernel(place + scene(generator), place + scene(generator))
            p.append(swap_p(h, np.repeat(np.arange(20), 4), 99, generator))
            distances.append(squared_mmd(h))
        assert 0.4 < np.mean(p) < 0.6
        assert np.mean(np.array(p) <= 0.1) < 0.2


def test_independent_draws_of_one_distribution_are_no_distance_apart_in_the_mean():
    place = normal(100)[0]
    distances = [squared_mmd(pair_kernel(place + u, place + v)) for u, v, *_ in map(normal, range(40))]
    assert abs(np.mean(distances)) < 2 * np.std(distances) / np.sqrt(40)
    assert min(distances) < 0


def test_zeros_have_no_direction_and_a_constant_half_has_one():
    blocks = normal(0)
    blocks[1], blocks[2] = np.full_like(blocks[1], 0.1), 0 * blocks[2]
    found = compute(made(blocks), 80, np.random.default_rng(0), permutations=9)
    assert {name for name, value in found.items() if np.isnan(value)} == {
        f"{measure} private" for measure in ("gap", "gap_scaled", "mmd2", "mmd_p")
    }
    assert found["gap shared"] == pytest.approx(1, abs=0.2)
    both = compute(made([np.full((80, 6), 0.1)] * 4), 80, np.random.default_rng(0), permutations=9)
    assert both["gap shared"] == pytest.approx(0, abs=1e-9)
    assert np.isnan([both["gap_scaled shared"], both["mmd2 shared"], both["mmd_p shared"]]).all()


def test_one_image_has_no_p_value_and_one_row_no_distance():
    found = compute(made(normal(0), per_image=80), 80, np.random.default_rng(0), permutations=9)
    assert {name for name, value in found.items() if np.isnan(value)} == {"mmd_p shared", "mmd_p private"}
    assert np.isnan(compute(made(normal(0, n=1)), 1, np.random.default_rng(0), permutations=9)["mmd2 shared"])


def test_shuffled_rows_have_the_same_gap():
    u, v = normal(0)[:2]
    shuffled = np.random.default_rng(1).permutation(v)
    assert modality_gap(u, shuffled) == pytest.approx(modality_gap(u, v))
    assert squared_mmd(pair_kernel(u, shuffled)) != pytest.approx(squared_mmd(pair_kernel(u, v)), rel=1e-6)


def test_no_permutations_are_an_error():
    with pytest.raises(ValueError, match="permutations must be at least 1, got 0"):
        compute(made(normal(0)), 80, np.random.default_rng(0), permutations=0)
