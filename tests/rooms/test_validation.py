"""The two tables that verify the dataset, on datasets whose result is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crodino_lib.rooms import validation
from crodino_lib.rooms.scene import CLASSES, PAIRS
from crodino_lib.rooms.validation import pair_separability, truth_table

SENSORS = ("rgb", "depth", "thermal")


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch):
    for name in ("ExtraTreesClassifier", "ExtraTreesRegressor"):
        forest = getattr(validation, name)
        monkeypatch.setattr(validation, name, lambda _, f=forest, **settings: f(20, **{**settings, "n_jobs": 1}))


class Squares:
    """Scenes with one square per pair, of either class; only the pair's sensor sees which."""

    card = SimpleNamespace(sensors=dict.fromkeys(SENSORS), name="squares")

    def __init__(self, counts, without=()):
        self.counts, self.without = counts, without

    def ids(self, split):
        return [f"{split}-{i}" for i in range(self.counts[split])]

    def _generator(self, scene_id):
        split, index = scene_id.split("-")
        return np.random.default_rng([list(self.counts).index(split), int(index)])

    def sites(self, scene_id):
        sites = np.zeros((48, 64), np.uint8)
        for i in range(len(PAIRS)):
            sites[20:28, 4 + 12 * i : 12 + 12 * i] = i + 1
        return sites

    def rendered(self, scene_id):
        rng, sites = self._generator(scene_id), self.sites(scene_id)
        sample = {"label": np.zeros((48, 64), int)}
        for sensor, channels in zip(SENSORS, (3, 1, 1), strict=True):
            sample[sensor] = 100 + 5 * rng.normal(size=(channels, 48, 64))
            sample[f"{sensor}_valid"] = np.ones((1, 48, 64), bool)
        for i, (sensor, *classes) in enumerate(PAIRS.values()):
            second = rng.random() < 0.5
            label = classes[0] if classes[second] in self.without else classes[second]
            sample["label"][sites == i + 1] = CLASSES.index(label)
            sample[sensor][:, sites == i + 1] += 30 * (label == classes[1])
        return sample


def test_a_pair_is_told_apart_by_the_one_sensor_that_sees_it():
    table = pair_separability(Squares({"train": 20, "test": 40}))
    assert len(table) == len(PAIRS) * len(SENSORS)
    assert table.loc[table["decisive"], "balanced_accuracy"].min() > 0.95
    assert table.loc[~table["decisive"], "balanced_accuracy"].max() < 0.75
    assert (table["n_train"] == 20).all()
    assert (table["n_test"] == 40).all()


def test_a_split_without_one_of_the_classes_is_named():
    with pytest.raises(ValueError, match=r"split 'train' shows no statue"):
        pair_separability(Squares({"train": 6, "test": 6}, without=("statue",)))


class Levels(Squares):
    """Scenes whose mean depth and whose fine thermal noise are factors; a third factor shows nowhere."""

    def factors(self, split):
        drawn = [self._generator(scene_id).uniform(1, 3, 3) for scene_id in self.ids(split)]
        return pd.DataFrame(drawn, index=self.ids(split), columns=["near", "noise", "hidden"])

    def rendered(self, scene_id):
        rng = self._generator(scene_id)
        near, noise, _ = rng.uniform(1, 3, 3)
        depth, thermal = near + 0.5 * rng.normal(size=(1, 48, 64)), noise * rng.normal(size=(1, 48, 64))
        valid = rng.random((1, 48, 64)) < 0.8
        rgb = rng.integers(256, size=(3, 48, 64)).astype(np.uint8)
        masks = {"depth_valid": valid, "thermal_valid": valid, "label": np.zeros((48, 64), int)}
        return {"rgb": rgb, "depth": depth * valid, "thermal": thermal} | masks


def test_the_truth_table_finds_each_factor_where_it_was_put_and_nowhere_else(monkeypatch):
    listed = {"near": ("depth", ""), "noise": ("thermal", ""), "hidden": ("shared", "")}
    monkeypatch.setattr(validation, "FACTORS", listed)
    monkeypatch.setattr(validation, "SHUFFLES", 50)
    table = truth_table(Levels({"train": 30, "test": 30}), SENSORS).set_index(["factor", "sensor"])
    assert table.loc[("near", "depth"), "r2"] > 0.8
    assert table.loc[("noise", "thermal"), "r2"] > 0.8
    assert {cell for cell, carried in table["carries"].items() if carried} == {("near", "depth"), ("noise", "thermal")}
    assert (table["chance"] < 0.2).all()
