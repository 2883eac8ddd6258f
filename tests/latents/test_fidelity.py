import numpy as np
import pytest

from crodino_lib.latents.fidelity import class_purity, continuity, cross_modality_fraction, trustworthiness


def test_trustworthiness_and_continuity_have_their_golden_values():
    high = np.random.RandomState(0).randn(300, 20)
    assert trustworthiness(high, high[:, :2], 15) == pytest.approx(0.617831, abs=1e-6)
    assert continuity(high, high[:, :2], 15) == pytest.approx(0.697899, abs=1e-6)


def test_trustworthiness_is_what_its_equation_says():
    generator = np.random.default_rng(0)
    high, low, k = generator.normal(size=(30, 5)), generator.normal(size=(30, 2)), 4
    orders = [np.argsort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1) for x in (high, low)]
    penalty = 0
    for i in range(30):
        for j in orders[1][i][1 : k + 1]:
            penalty += max(0, list(orders[0][i]).index(j) - k)
    assert trustworthiness(high, low, k) == pytest.approx(1 - 2 / (30 * k * (60 - 3 * k - 1)) * penalty)


def test_a_picture_that_is_the_space_itself_is_trusted_fully():
    points = np.random.default_rng(0).normal(size=(100, 2))
    assert trustworthiness(points, 3 * points + 1) == 1.0
    assert continuity(points, 3 * points + 1) == 1.0


def test_sensors_with_equal_latents_are_mixed_and_separate_ones_are_not():
    block = np.random.default_rng(0).normal(size=(500, 8))
    sensors = np.repeat(["rgb", "depth"], 500)
    twins = cross_modality_fraction(np.concatenate([block, block]), sensors)
    assert twins == pytest.approx(8 / 15, abs=0.01)  # its twin, and half of seven pairs of others
    assert cross_modality_fraction(np.concatenate([block, block + 100]), sensors) == 0.0


def test_two_sensors_that_share_a_distribution_mix_evenly():
    points = np.random.default_rng(0).normal(size=(2000, 3))
    assert cross_modality_fraction(points, np.repeat(["rgb", "depth"], 1000)) == pytest.approx(0.5, abs=0.01)


def test_purity_is_counted_over_neighbours_without_the_point_itself():
    line = np.array([[0.0], [1.0], [10.0], [11.0], [20.0], [21.0]])
    assert class_purity(line, np.array([0, 0, 1, 1, 2, 2]), k=1) == 1.0
    assert class_purity(line, np.array([0, 1, 0, 1, 0, 1]), k=1) == 0.0
    assert class_purity(line, np.array([0, 0, 1, 1, 0, 1]), k=1) == pytest.approx(4 / 6)


def test_one_sensor_has_no_neighbours_from_another():
    with pytest.raises(ValueError, match=r"need two sensors in one picture, found only \['rgb'\]"):
        cross_modality_fraction(np.zeros((20, 2)), np.repeat("rgb", 20))
