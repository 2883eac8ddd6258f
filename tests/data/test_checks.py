import itertools
import re

import numpy as np
import pytest

from crodino_lib.data.checks import SplitStatistics, fill_values
from crodino_lib.data.sample import RGB, DatasetCard, Sensor

SIZE = (24, 32)


def statistics(split="train", depth=None, label=None, valid=None, scenes=4, sensor=None):
    """Statistics of ``scenes`` scenes with rgb and depth of 2.5 +- 0.5 m, except for what is given."""
    sensor = sensor or Sensor(1, "m", (2.5,), (0.5,))
    card = DatasetCard("x", "X", {"rgb": RGB, "depth": sensor}, ("wall", "floor"), ((0,) * 3,) * 2, ("train",), SIZE)
    generator, found = np.random.default_rng(0), SplitStatistics(card)
    for index in range(scenes):
        noise = generator.normal(2.5, 0.5, (1, *SIZE)).astype(np.float32)
        found.add(
            {
                "id": str(index),
                "rgb": generator.integers(0, 256, (3, *SIZE), dtype=np.uint8),
                "depth": noise if depth is None else depth(noise),
                "depth_valid": np.ones((1, *SIZE), bool) if valid is None else valid,
                "label": generator.integers(0, 2, SIZE) if label is None else label,
            }
        )
    return found


def test_sound_scenes_have_no_problem():
    assert statistics().problems("train") == []


def test_statistics_are_those_of_all_valid_pixels():
    low, mean, high, std, valid = statistics(scenes=40).values("depth")
    assert (low, high, valid) == (pytest.approx(0.4, abs=0.4), pytest.approx(4.6, abs=0.4), 1)
    assert (mean, std) == (pytest.approx(2.5, abs=0.01), pytest.approx(0.5, abs=0.01))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"label": np.full(SIZE, 255)}, "no pixel has a label"),
        ({"label": np.zeros(SIZE, int)}, r"every labelled pixel is 'wall', expected two classes or more$"),
        ({"label": np.arange(24 * 32).reshape(SIZE) % 2 * 255}, "50% of the pixels are ignored.*255.*ignore = "),
        ({"valid": np.zeros((1, *SIZE), bool)}, "depth has no valid pixel in any scene, expected values in m"),
        ({"depth": np.zeros_like}, "depth is 0 m in every pixel"),
        ({"depth": lambda noise: 1000 * noise}, r"mean of 2[45]\d\d m, expected 0.05 to 500 m.*scale = 0.001"),
        ({"depth": lambda noise: noise / 1000}, r"mean of 0.002.* m, expected .*scale = 1.0"),
        ({"depth": lambda noise: 10 * noise}, r"depth is 2[45].* m, far from the stated 2.5 \+- 0.5"),
        ({"depth": lambda noise: 2.5 + noise / 100}, r"depth is 2.5.* \+- 0.00.*far from the stated"),
    ],
)
def test_what_makes_training_worthless_is_a_problem(given, says):
    (problem,) = statistics(**given).problems("train")
    assert problem.startswith("x, split train: ")
    assert re.search(says, problem)


def test_millimetres_are_a_problem_even_where_the_stated_mean_is_theirs():
    (problem,) = statistics(depth=lambda n: 1000 * n, sensor=Sensor(1, "m", (2500.0,), (500.0,))).problems("train")
    assert "scale = 0.001" in problem


@pytest.mark.parametrize(("place", "factor"), [(0, 1000), (3, 1000), (2, 0.01)])
def test_a_scene_stored_in_another_unit_is_named(place, factor):
    """One in millimetres among metres moves the mean of forty by less than two of their deviations."""
    drawn = itertools.count()
    found = statistics(depth=lambda noise: noise * (factor if next(drawn) == place else 1), scenes=40)
    (problem,) = found.problems("train")
    assert re.search(rf"depth of 1 scene\(s\) such as '{place}' is .* m, of the others 2\.5.* m", problem)


def test_a_short_split_may_show_one_class_at_one_distance_but_needs_labels():
    one = statistics(label=np.zeros(SIZE, int), depth=lambda noise: 2.5 + noise / 100)
    assert one.problems("val") == []
    assert "no pixel has a label" in statistics(label=np.full(SIZE, 255)).problems("test_night")[0]


@pytest.mark.parametrize("value", [-9999.0, 65.535, -3.4028235e38])
@pytest.mark.parametrize("pixels", [3, 10])
def test_a_fill_value_is_named_with_its_count(value, pixels):
    def holes(noise):
        noise.ravel()[:pixels] = value
        return noise

    found = statistics(depth=holes).problems("train")
    assert f"the value {value:g} in {4 * pixels} pixel(s) of 4 scene(s)" in found[-1]


def test_a_large_part_at_a_far_value_may_be_the_sky_but_not_where_it_is_low():
    def sky(value):
        return lambda noise: np.where(np.arange(noise.size).reshape(noise.shape) < 200, np.float32(value), noise)

    far = Sensor(1, "m", (15.0,), (25.0,))
    assert statistics(depth=sky(50), sensor=far).problems("train") == []
    assert "the value -9999" in statistics(depth=sky(-9999), sensor=far).problems("train")[0]


def test_a_faulty_pixel_of_one_scene_is_no_fill_value():
    assert (
        statistics(depth=lambda n: np.where(np.arange(n.size).reshape(n.shape) == 5, 65, n), scenes=1).problems("val")
        == []
    )


def test_heavy_tails_and_hot_objects_are_no_fill_values():
    generator = np.random.default_rng(0)
    far = np.exp(generator.uniform(0, np.log(1250), 20000)).astype(np.float32)
    hot = generator.normal(20, 1, 20000)
    hot[:50] = np.linspace(21, 800, 50)  # a fire and its rims
    for values in (far, hot, np.repeat([0.0, 1.0], 50)):
        assert fill_values(values, values.min(), values.max()) == []


def test_scenes_that_carry_nothing_are_warned_of():
    found = statistics(scenes=0)
    warnings = found.add(
        {
            "id": "7",
            "rgb": np.full((3, *SIZE), 9, np.uint8),
            "depth": np.ones((1, *SIZE), np.float32),
            "depth_valid": np.zeros((1, *SIZE), bool),
            "label": np.full(SIZE, 255),
        }
    )
    assert warnings == [
        "scene '7': no pixel has a label",
        "scene '7': rgb is 9 everywhere",
        "scene '7': depth has no valid pixel",
    ]
