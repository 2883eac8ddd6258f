"""Faults of sensors: what they change, what they leave, and that a severity is a severity."""

import numpy as np
import pytest

from crodino_lib.analysis.robustness import first_scenes
from crodino_lib.analysis.sensor_faults import ABSENT, DEGRADED, SEVERITIES, broken, faults_of
from crodino_lib.config import DataConfig
from crodino_lib.datasets.encodings import encoded

CASES = [("rgb", name) for name in DEGRADED["rgb"]] + [("depth", name) for name in DEGRADED["depth"]]
CASES += [("thermal", name) for name in DEGRADED["other"]]
EVERY = CASES + [(sensor, name) for sensor in ("rgb", "depth", "thermal") for name in ABSENT]


def damage(before, after, sensor):
    """Return the mean change of what networks see, an invalid value being as far off as two standard deviations."""
    valid = [scenes.valid.get(sensor, np.ones_like(scenes.images[sensor][:, :1], bool)) for scenes in (before, after)]
    spread = 60 if sensor == "rgb" else 1
    change = np.abs(before.images[sensor].astype(float) - after.images[sensor].astype(float)).mean(1, keepdims=True)
    return np.where(valid[0] & valid[1], change / spread, 2.0 * (valid[0] != valid[1])).mean()


@pytest.mark.parametrize(("sensor", "fault"), EVERY)
def test_a_fault_changes_its_sensor_alone_and_always_in_the_same_way(toy_scenes, toy_card, sensor, fault):
    first, second = (broken(toy_scenes, toy_card, sensor, fault, 3) for _ in range(2))
    np.testing.assert_array_equal(first.images[sensor], second.images[sensor])
    assert first.images[sensor].dtype == toy_scenes.images[sensor].dtype
    assert first.images[sensor].shape == toy_scenes.images[sensor].shape
    assert damage(toy_scenes, first, sensor) > 0
    assert first.labels is toy_scenes.labels
    for other in set(toy_scenes.images) - {sensor}:
        assert first.images[other] is toy_scenes.images[other]
    if sensor != "rgb":
        assert first.valid[sensor].dtype == bool
        assert (first.images[sensor][~first.valid[sensor]] == 0).all()


@pytest.mark.parametrize(("sensor", "fault"), CASES)
def test_a_higher_severity_does_more_damage(toy_scenes, toy_card, sensor, fault):
    found = [damage(toy_scenes, broken(toy_scenes, toy_card, sensor, fault, s), sensor) for s in SEVERITIES]
    assert found == sorted(found)
    assert found[-1] > found[0]


def test_an_absent_sensor_is_black_or_has_no_value_the_mean_noise_or_another_scene_s(toy_scenes, toy_card):
    assert not broken(toy_scenes, toy_card, "rgb", "zeros").images["rgb"].any()
    assert not broken(toy_scenes, toy_card, "depth", "zeros").valid["depth"].any()
    assert (broken(toy_scenes, toy_card, "depth", "mean").images["depth"] == 3).all()
    drawn = broken(toy_scenes, toy_card, "thermal", "noise").images["thermal"]
    assert drawn.mean() == pytest.approx(20, abs=0.2)
    assert drawn.std() == pytest.approx(5, abs=0.2)
    moved = broken(toy_scenes, toy_card, "depth", "another scene")
    half = len(toy_scenes) // 2
    np.testing.assert_array_equal(moved.images["depth"][half:], toy_scenes.images["depth"][:-half])
    np.testing.assert_array_equal(moved.valid["depth"][0], toy_scenes.valid["depth"][-half])
    with pytest.raises(ValueError, match="at least two scenes, found 1"):
        broken(first_scenes(toy_scenes, 1), toy_card, "depth", "another scene")


@pytest.mark.parametrize("encoding", ["inverse", "normals"])
def test_an_encoded_sensor_is_broken_in_its_own_unit(toy_scenes, toy_card, encoding):
    card = encoded(toy_card, DataConfig(depth_encoding=encoding))
    for fault in ("mean", "noise", "short-ranged", "quantised"):
        ours, plain = (broken(toy_scenes, one, "depth", fault, 2) for one in (card, toy_card))
        np.testing.assert_array_equal(ours.images["depth"], plain.images["depth"])
        np.testing.assert_array_equal(ours.valid["depth"], plain.valid["depth"])


def test_the_fault_of_a_scene_does_not_depend_on_the_others(toy_scenes, toy_card):
    whole = broken(toy_scenes, toy_card, "rgb", "noisy", 2)
    ids, some = toy_scenes.ids[3:5], {name: array[3:5] for name, array in toy_scenes.images.items()}
    part = type(toy_scenes)(some, {n: a[3:5] for n, a in toy_scenes.valid.items()}, toy_scenes.labels[3:5], ids)
    np.testing.assert_array_equal(broken(part, toy_card, "rgb", "noisy", 2).images["rgb"], whole.images["rgb"][3:5])


def test_every_sensor_has_the_faults_of_its_kind(toy_card):
    assert [next(iter(faults_of(name, toy_card))) for name in ("rgb", "depth", "thermal")] == [
        "dark",
        "holes",
        "drifting",
    ]


def test_an_unknown_fault_or_sensor_is_refused_with_the_nearest(toy_scenes, toy_card):
    with pytest.raises(ValueError, match="dark"):
        broken(toy_scenes, toy_card, "rgb", "darc", 1)
    with pytest.raises(ValueError, match="depth"):
        broken(toy_scenes, toy_card, "dept", "holes", 1)
    with pytest.raises(ValueError, match="fault of rgb"):
        broken(toy_scenes, toy_card, "rgb", "holes", 1)
