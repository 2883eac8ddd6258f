"""Confidence against brute force and torchmetrics, the temperature, the table of faults, and whom to trust."""

import numpy as np
import pandas as pd
import pytest
import torch
import torchmetrics

from crodino_lib.analysis import robustness
from crodino_lib.analysis.robustness import (
    Confidence,
    conditions,
    fit_temperature,
    measure,
    robustness_table,
    trust_table,
)
from crodino_lib.analysis.sensor_faults import ABSENT
from crodino_lib.config import ModelConfig, RunConfig, StudyConfig, TrainConfig
from crodino_lib.data.sample import IGNORE, SensorSet
from crodino_lib.study.runs import fetch_run
from crodino_lib.study.study import Study

RGB = SensorSet(["rgb"])


class Guess:
    """A network whose logits are drawn once per scene, near the truth."""

    def __init__(self, scenes, sharpness=1.0):
        generator = torch.Generator().manual_seed(0)
        shown = torch.from_numpy(np.where(scenes.labels == IGNORE, 0, scenes.labels)).long()
        truth = torch.nn.functional.one_hot(shown, 4).movedim(-1, 1)
        logits = 1.5 * truth + torch.randn(truth.shape, generator=generator)
        self.logits, self.start, self.sharpness = logits, 0, sharpness

    def predict(self, images):
        count = len(images["rgb"])
        found = self.logits[self.start : self.start + count]
        self.start = (self.start + count) % len(self.logits)
        return self.sharpness * found


def test_confidence_is_that_of_brute_force_and_of_torchmetrics(toy_scenes, toy_card):
    labels = toy_scenes.labels.copy()
    labels[:, :3] = IGNORE
    scenes = type(toy_scenes)(toy_scenes.images, toy_scenes.valid, labels, toy_scenes.ids)
    guess = Guess(scenes)
    (found,) = measure(guess, scenes, toy_card, RGB)
    p, truth = guess.logits.softmax(dim=1).double(), torch.from_numpy(labels).long()
    counted = truth != IGNORE
    flat, right = p.movedim(1, -1)[counted], truth[counted]
    assert found.nll == pytest.approx(-flat[torch.arange(len(right)), right].log().mean().item(), rel=1e-6)
    distance = (flat - torch.nn.functional.one_hot(right, 4)).square().sum(dim=1).mean()
    assert found.brier == pytest.approx(distance.item(), rel=1e-6)
    oracle = torchmetrics.classification.MulticlassCalibrationError(4, n_bins=15, ignore_index=IGNORE)
    assert found.ece == pytest.approx(oracle(p.float(), truth).item(), abs=1e-5)
    miou = torchmetrics.classification.MulticlassJaccardIndex(4, ignore_index=IGNORE)
    assert found.miou == pytest.approx(miou(p.float(), truth).item(), abs=1e-6)
    assert found.bins[:, 0].sum() == pytest.approx(1)
    assert found.confidence == pytest.approx(flat.amax(dim=1).mean().item())
    assert found.accuracy == pytest.approx((flat.argmax(dim=1) == right).double().mean().item())


def test_a_temperature_undoes_logits_that_are_too_large(toy_scenes, toy_card):
    own = fit_temperature(Guess(toy_scenes), toy_scenes, toy_card, RGB)
    assert fit_temperature(Guess(toy_scenes, 3.0), toy_scenes, toy_card, RGB) == pytest.approx(3 * own, rel=0.01)
    (sharp,) = measure(Guess(toy_scenes, 3.0), toy_scenes, toy_card, RGB)
    plain, scaled = measure(Guess(toy_scenes, 3.0), toy_scenes, toy_card, RGB, (1.0, 3 * own))
    assert plain.nll == sharp.nll
    assert scaled.nll < plain.nll
    assert scaled.ece < plain.ece
    assert scaled.miou == plain.miou


def test_a_network_that_is_right_as_often_as_it_is_sure_has_no_calibration_error():
    bins = np.array([[0.5, 0.6, 0.6], [0.5, 0.9, 0.9], [0, np.nan, np.nan]])
    assert Confidence(0.5, 1.0, 0.5, bins).ece == 0
    bins[1, 2] = 0.7
    assert Confidence(0.5, 1.0, 0.5, bins).ece == pytest.approx(0.1)


def test_every_sensor_of_a_network_is_broken_in_every_way(toy_card):
    found = conditions(SensorSet(["rgb", "depth"]), toy_card, (1, 5))
    assert found[0] == ("-", "none", 0)
    assert len(found) == len(set(found)) == 1 + 2 * len(ABSENT) + 2 * 4 + 2 * 3


@pytest.fixture(scope="module")
def fetched(tmp_path_factory, toy_card, toy_scenes):
    model = ModelConfig(encoder="mobilenetv3_small_050", weights="none", block_channels=16, decoder_channels=16)
    config = RunConfig(method="early", sensors=("rgb", "depth"), model=model, train=TrainConfig(epochs=1, batch_size=8))
    scenes = dict.fromkeys(("train", "val", "test"), toy_scenes)
    return fetch_run(config, tmp_path_factory.mktemp("faults"), "toy", toy_card, scenes)


@pytest.fixture
def study(tmp_path, toy_card, toy_scenes, monkeypatch):
    """A study whose data are the toy scenes."""
    monkeypatch.setattr(Study, "card", toy_card)
    monkeypatch.setattr(Study, "scenes", dict.fromkeys(("train", "val", "test"), toy_scenes))
    monkeypatch.setattr(Study, "fingerprint", "toy")
    return Study(StudyConfig.parse({"profile": "smoke", "study": "toy"}), tmp_path)


def test_the_table_is_measured_once_and_kept_with_the_run(study, fetched, monkeypatch):
    table = robustness_table(study, [fetched], severities=(5,), scenes=6)
    assert set(table.split) == {"test"}
    assert len(table) == 1 + 2 * len(ABSENT) + 4 + 3
    whole = table[table.fault == "none"].iloc[0]
    assert whole.sensors == "rgb+depth"
    assert 0 <= whole.miou <= 100
    monkeypatch.setattr(robustness, "_measured", None)
    pd.testing.assert_frame_equal(robustness_table(study, [fetched], severities=(5,), scenes=6), table)
    with pytest.raises(TypeError):  # another severity is another measurement
        robustness_table(study, [fetched], severities=(4,), scenes=6)


def test_the_best_network_that_does_not_have_the_broken_sensor_is_the_rival():
    rows = [
        ("acnet", "rgb+depth", "-", "none", 0, 60.0), ("acnet", "rgb+depth", "rgb", "dark", 1, 58.0),
        ("acnet", "rgb+depth", "rgb", "dark", 5, 30.0), ("csk-net", "rgb+depth", "-", "none", 0, 55.0),
        ("csk-net", "rgb+depth", "rgb", "dark", 1, 50.0), ("csk-net", "rgb+depth", "rgb", "dark", 5, 45.0),
        ("baseline", "depth", "-", "none", 0, 50.0), ("kd", "depth", "-", "none", 0, 52.0),
        ("kd", "rgb", "-", "none", 0, 59.0), ("kd", "rgb", "rgb", "dark", 5, 5.0),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["method", "sensors", "sensor", "fault", "severity", "miou"])
    found = trust_table(table)
    assert found[["severity", "both", "method of both", "alone", "method alone", "trust"]].values.tolist() == [
        [1, 58.0, "acnet", 52.0, "kd", "both"],
        [5, 30.0, "acnet", 52.0, "kd", "depth alone"],
    ]
