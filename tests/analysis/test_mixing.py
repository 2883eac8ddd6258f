import numpy as np
import pytest

from crodino_lib.analysis.similarity import cross_within_class
from crodino_lib.analysis.similarity import mixing as compute
from tests.analysis.factories import made, named, normal


def test_mixing_is_what_its_equations_say():
    points = normal(0, n=40, d=3)[0]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    sensors, classes = np.repeat([0, 1], 20), np.tile(np.repeat([0, 1], [14, 6]), 2)

    def nearest(i, among, k):
        return sorted((j for j in among if j != i), key=lambda j: sum((points[i] - points[j]) ** 2))[:k]

    crossed = []
    for i in range(40):
        fellows = [j for j in range(40) if classes[j] == classes[i]]
        k = min(15, len(fellows) // 2 - 1)
        crossed.append(np.mean([sensors[j] != sensors[i] for j in nearest(i, fellows, k)]))
    assert cross_within_class(points, sensors, classes) == pytest.approx(np.mean(crossed))


def test_sensors_of_one_distribution_mix_and_those_in_cones_do_not():
    a, b, c, e = normal(0, 1000)
    found = named(compute(made([a, b, c + 20 * np.eye(6)[0], e + 20 * np.eye(6)[1]]), np.random.default_rng(0)))
    assert found["cross_modality shared"] == pytest.approx(0.5, abs=0.01)
    assert found["cross_within_class shared"] == pytest.approx(0.5, abs=0.02)
    assert found["cross_modality private"] == found["cross_within_class private"] == 0
    for half in ("shared", "private"):
        assert found[f"class_purity {half}"] == pytest.approx(0.25, abs=0.03)


def test_equal_sensors_find_their_twin_first():
    a, _, b, _ = normal(0, 600)
    found = named(compute(made([a, a, b, b]), np.random.default_rng(0)))
    assert found["cross_modality shared"] == pytest.approx(8 / 15, abs=0.01)  # the twin, and half of seven pairs


def test_classes_in_directions_of_their_own_are_pure():
    blocks = [0.05 * block + np.eye(6)[np.arange(80) % 4] for block in normal(0)]
    found = named(compute(made(blocks), np.random.default_rng(0)))
    assert found["class_purity shared"] == 1
    assert found["cross_modality shared"] == pytest.approx(found["cross_within_class shared"])
    assert found["cross_within_class shared"] == pytest.approx(0.5, abs=0.1)


def test_lengths_and_rotations_of_rows_are_of_no_account():
    blocks = normal(0)
    before = named(compute(made(blocks), np.random.default_rng(0)))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    lengths = np.random.default_rng(2).uniform(0.5, 2, (80, 1))
    assert named(
        compute(made([lengths * block @ turn for block in blocks]), np.random.default_rng(0))
    ) == pytest.approx(before, abs=1e-5)


def test_neighbours_know_no_pairs():
    a, b, c, e = normal(0)
    one, other = made([a, b, c, e], classes=np.zeros(80)), made([a, b[::-1], c, e[::-1]], classes=np.zeros(80))
    found = [named(compute(latents, np.random.default_rng(0))) for latents in (one, other)]
    assert found[0] == pytest.approx(found[1], nan_ok=True)


def test_one_class_is_neither_pure_nor_impure():
    found = named(compute(made(normal(0), classes=np.zeros(80)), np.random.default_rng(0)))
    assert {name.split()[0] for name, value in found.items() if np.isnan(value)} == {"class_purity"}
    assert found["cross_within_class shared"] == pytest.approx(found["cross_modality shared"])


def test_few_rows_have_fewer_neighbours():
    blocks = normal(0, n=4)
    apart = [blocks[0] + 10 * np.eye(6)[0], blocks[1] - 10 * np.eye(6)[0]]
    found = named(compute(made([*apart, *blocks[2:]]), np.random.default_rng(0)))
    assert found["cross_modality shared"] == 0  # three neighbours, all of which can be of the own sensor
    assert np.isnan(found["cross_within_class shared"])  # a class of one row has no choice


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_half_has_no_neighbours(value):
    blocks = normal(0)
    blocks[3] = np.full_like(blocks[3], value)
    found = named(compute(made(blocks), np.random.default_rng(0)))
    assert {name for name, result in found.items() if np.isnan(result)} == {name for name in found if "private" in name}
    alone = named(compute(made(normal(0, n=1)), np.random.default_rng(0)))
    assert np.isnan(list(alone.values())).all()
