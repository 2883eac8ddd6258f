from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from crodino_lib.analysis.extraction import Block, Latents, RecordLatents, extract
from crodino_lib.augment import plain
from crodino_lib.config import RunConfig, TrainConfig
from crodino_lib.data.sample import SensorSet

CPU = torch.device("cpu")
SENSORS = ("rgb", "depth")


class Pooled(nn.Module):
    """A method whose latents are its inputs, averaged over the cells of stride 16."""

    def __init__(self, card, serves=("rgb", "depth", "rgb+depth")):
        super().__init__()
        self.card, self.sensors, self.serves = card, SENSORS, tuple(map(SensorSet.parse, serves))
        self.weight, self.exports = nn.Parameter(torch.zeros(1)), 0

    def export(self):
        self.exports += 1

    def latents(self, images):
        assert not self.training, "latents are taken in evaluation mode"
        return {
            f"{sensor}/{half}": F.avg_pool2d(x, 16) for sensor, x in images.items() for half in ("shared", "private")
        }


@pytest.fixture(scope="module")
def units(toy_scenes, toy_card):
    return extract(Pooled(toy_card).train(), toy_scenes, batch_size=5)


@pytest.fixture(scope="module")
def inputs(toy_scenes, toy_card):
    return plain(toy_scenes, list(range(len(toy_scenes))), toy_card, SENSORS, CPU).images


def numbered(*counts):
    """Latents with ``counts[k]`` regions of class k, whose vectors hold the number of their row."""
    classes = np.repeat(np.arange(len(counts)), counts)
    rows = pd.DataFrame({"image": "0", "class": classes, "name": [f"c{k}" for k in classes], "cells": 1.0})
    vectors = np.arange(len(classes), dtype=np.float32)[:, None]
    return Latents({Block(s, half): vectors for s in SENSORS for half in ("shared", "private")}, rows)


def test_blocks_are_found_by_sensor_and_half_and_written_as_one_word():
    block = Block.parse("rgb+depth/shared")
    assert block == ("rgb+depth", "shared")
    assert str(block) == "rgb+depth/shared"
    latents = numbered(2)
    assert latents.sensors == SENSORS
    assert latents.halves == ("shared", "private")
    assert latents.blocks["rgb", "shared"].shape == (2, 1)


def test_an_image_is_the_mean_of_its_cells_and_has_no_class(units, inputs, toy_scenes):
    latents = units["image"]
    assert latents.unit == "image"
    assert latents.rows["image"].tolist() == toy_scenes.ids
    assert set(latents.rows["class"]) == {255}
    assert set(latents.rows["cells"]) == {12.0}
    assert (latents.rows[["left", "top", "right", "bottom"]] == [0, 0, 64, 48]).all(axis=None)
    for sensor in SENSORS:
        expected = [scene.mean(dim=(1, 2)).numpy() for scene in inputs[sensor]]
        np.testing.assert_allclose(latents.blocks[sensor, "shared"], expected, rtol=1e-4, atol=1e-4)
        assert latents.blocks[sensor, "shared"].dtype == np.float32


def test_a_region_is_the_mean_of_its_cells_weighted_by_covered_area(units, inputs, toy_scenes, toy_card):
    latents = units["region"]
    assert (latents.rows["cells"] >= 1).all()
    assert latents.rows["name"].tolist() == [toy_card.classes[k] for k in latents.classes]
    assert not latents.rows.duplicated(["image", "class"]).any()
    for index in range(0, len(latents), 7):
        row = latents.rows.iloc[index]
        scene = toy_scenes.ids.index(row["image"])
        mask = torch.from_numpy(toy_scenes.labels[scene] == row["class"])
        share = F.avg_pool2d(mask[None].float(), 16)[0]
        cells = F.avg_pool2d(inputs["rgb"][scene], 16)
        expected = (cells * share).sum(dim=(1, 2)) / share.sum()
        np.testing.assert_allclose(latents.blocks["rgb", "shared"][index], expected, rtol=1e-4, atol=1e-4)
        y, x = np.nonzero(mask.numpy())
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert row[["left", "top", "right", "bottom"]].tolist() == box
        assert (row["x"], row["y"]) == pytest.approx(((x.mean() + 0.5) / 64, (y.mean() + 0.5) / 48))
        assert row["cells"] == pytest.approx(share.sum().item())


def test_rows_do_not_depend_on_the_batch_size(units, toy_scenes, toy_card):
    whole = extract(Pooled(toy_card), toy_scenes, ["region"], 64)["region"]
    pd.testing.assert_frame_equal(whole.rows, units["region"].rows)
    for name, block in units["region"].blocks.items():
        np.testing.assert_allclose(whole.blocks[name], block, rtol=1e-5, atol=1e-5)


def test_networks_of_several_sensors_are_left_out_and_needed_are_those_of_one(units, toy_scenes, toy_card):
    assert units["image"].sensors == SENSORS
    assert extract(Pooled(toy_card, ["depth"]), toy_scenes, ["image"])["image"].sensors == ("depth",)
    with pytest.raises(ValueError, match="Pooled has no network of a single sensor"):
        extract(Pooled(toy_card, ["rgb+depth"]), toy_scenes)
    with pytest.raises(ValueError, match="unit 'regions' does not exist"):
        extract(Pooled(toy_card), toy_scenes, ["regions"])


def test_latents_come_back_from_disk_as_they_were(units, tmp_path):
    for unit, latents in units.items():
        latents.save(tmp_path / "new" / "latents.npz")
        loaded = Latents.load(tmp_path / "new" / "latents.npz")
        assert loaded.unit == unit
        assert list(loaded.blocks) == list(latents.blocks)
        for name, block in latents.blocks.items():
            np.testing.assert_array_equal(loaded.blocks[name], block)
        pd.testing.assert_frame_equal(loaded.rows, latents.rows, check_dtype=False)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["latents.npz"]


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz holds weights, but no rows/image"):
        Latents.load(tmp_path / "other.npz")


def test_a_block_of_another_length_is_refused():
    with pytest.raises(ValueError, match="block rgb/shared has 2 rows, but there are 3 regions"):
        Latents({Block("rgb", "shared"): np.zeros((2, 4), np.float32)}, numbered(3).rows)


def test_images_are_numbered_in_order_of_appearance():
    latents = numbered(2, 3)
    latents.rows["image"] = ["b", "b", "a", "c", "a"]
    assert latents.images.tolist() == [0, 0, 1, 2, 1]


def test_a_sample_of_rows_keeps_their_order_and_their_blocks_together():
    latents = numbered(50, 50)
    sample = latents.sample(30, np.random.default_rng(0))
    picked = sample.blocks["rgb", "shared"][:, 0]
    assert len(sample) == 30
    assert (np.diff(picked) > 0).all()
    assert sample.classes.tolist() == (picked >= 50).astype(int).tolist()
    assert latents.sample(100, np.random.default_rng(0)) is latents


def test_stacked_vectors_name_the_sensor_of_each_row():
    latents = Latents(
        {Block(s, "shared"): np.full((3, 1), v) for s, v in zip(SENSORS, (1, 2), strict=True)}, numbered(3).rows
    )
    vectors, rows = latents.stacked("shared")
    assert vectors[:, 0].tolist() == [1, 1, 1, 2, 2, 2]
    assert rows["sensor"].tolist() == ["rgb"] * 3 + ["depth"] * 3


# -- the frames of the film --------------------------------------------------------------------------------------------


def training(method, scenes, epochs=5):
    config = RunConfig(method="crodino-kd", train=TrainConfig(epochs=epochs))
    return SimpleNamespace(method=method, validation=scenes, config=config, epoch=0, epochs=epochs)


def test_frames_are_evenly_spaced_epochs_and_never_twice(tmp_path):
    assert RecordLatents(tmp_path, 6).epochs(20) == {0, 4, 8, 12, 16, 20}
    assert RecordLatents(tmp_path, 6).epochs(1) == {0, 1}
    assert RecordLatents(tmp_path, 0).epochs(5) == set()


def test_a_training_is_recorded_from_its_start_to_its_end_without_a_random_number(toy_scenes, toy_card, tmp_path):
    recorder, held = RecordLatents(tmp_path / "frames", 3), training(Pooled(toy_card), toy_scenes)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    recorder.on_start(held)
    for epoch in range(1, 6):
        held.epoch = epoch
        assert recorder.on_epoch_end(held) == {}
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [
        "epoch-0000.npz",
        "epoch-0002.npz",
        "epoch-0005.npz",
    ]
    assert held.method.exports == 3
    assert Latents.load(tmp_path / "frames" / "epoch-0002.npz").unit == "region"
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_a_resumed_training_keeps_the_frame_of_its_start(toy_scenes, toy_card, tmp_path):
    held = training(Pooled(toy_card), toy_scenes)
    RecordLatents(tmp_path, 2).on_start(held)
    RecordLatents(tmp_path, 2).on_start(held)
    assert held.method.exports == 1


def test_methods_without_a_network_of_each_sensor_and_scenes_without_regions_are_not_recorded(
    toy_scenes, toy_card, tmp_path, capsys
):
    RecordLatents(tmp_path, 2).on_start(training(Pooled(toy_card, ["rgb+depth"]), toy_scenes))
    blank = replace(toy_scenes, labels=np.full_like(toy_scenes.labels, 255))
    RecordLatents(tmp_path, 2).on_start(training(Pooled(toy_card), blank))
    assert list(tmp_path.iterdir()) == []
    assert "no latents of epoch 0: no class covers a bottleneck cell" in capsys.readouterr().out
