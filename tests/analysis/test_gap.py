import numpy as np
import pytest

from crodino_lib.analysis.similarity import gap as compute
from crodino_lib.analysis.similarity import modality_gap
from tests.analysis.factories import made, named, normal


def test_the_gap_is_the_distance_of_mean_directions():
    u, v = np.array([[3.0, 0.0], [0.0, 5.0]]), np.array([[-1.0, 0.0], [0.0, -2.0]])
    assert modality_gap(u, v) == pytest.approx(np.sqrt(2))  # from (1/2, 1/2) to (-1/2, -1/2)
    assert modality_gap(u, -2 * v) == 0


def test_sensors_in_cones_of_their_own_are_apart_and_equal_ones_are_not():
    a, b, c, _ = normal(0)
    gaps = named(compute(made([a + 5 * np.eye(6)[0], b + 5 * np.eye(6)[1], c, 2 * c]), np.random.default_rng(0)))
    assert gaps["gap shared"] > 1
    assert gaps["gap private"] == pytest.approx(0, abs=1e-6)


def test_zeros_have_no_direction_and_a_constant_half_has_one():
    blocks = normal(0)
    blocks[1], blocks[2] = np.full_like(blocks[1], 0.1), 0 * blocks[2]
    gaps = named(compute(made(blocks), np.random.default_rng(0)))
    assert gaps["gap shared"] == pytest.approx(1, abs=0.2)
    assert np.isnan(gaps["gap private"])
