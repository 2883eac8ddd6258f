from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from crodino_lib.analysis.extraction import PLACES, Latents, extract, extract_regions, pixels, stratified
from crodino_lib.augment import plain

CPU = torch.device("cpu")


class Pooled(nn.Module):
    """A method whose latents are its inputs, averaged over the cells of stride 16."""

    def latents(self, images):
        assert not self.training, "latents are taken in evaluation mode"
        return {
            f"{sensor}/{half}": F.avg_pool2d(x, 16) for sensor, x in images.items() for half in ("shared", "private")
        }


@pytest.fixture(scope="module")
def extracted(toy_scenes, toy_card):
    return extract_regions(Pooled().train(), toy_scenes, toy_card, ("rgb", "depth"), 5, CPU)


def made(counts, sensors=("rgb", "depth")):
    """Latents with ``counts[k]`` regions of class k, whose vectors say which row they are."""
    classes = np.repeat(np.arange(len(counts)), counts)
    rows = pd.DataFrame({"image": "0", "class": classes, "name": [f"c{k}" for k in classes], "cells": 1.0})
    vectors = np.arange(len(classes), dtype=np.float32)[:, None]
    return Latents({f"{s}/{half}": vectors for s in sensors for half in ("shared", "private")}, rows)


def test_every_region_is_the_mean_of_its_cells_weighted_by_area(extracted, toy_scenes, toy_card):
    inputs = plain(toy_scenes, list(range(len(toy_scenes))), toy_card, ("rgb", "depth"), CPU).images
    expected = []
    for image in range(len(toy_scenes)):
        for index, name in enumerate(toy_card.classes):
            total, area = {"rgb": np.zeros(3), "depth": np.zeros(1)}, 0.0
            for y in range(3):
                for x in range(4):
                    here = np.s_[16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
                    share = (toy_scenes.labels[image][here] == index).mean()
                    area += share
                    for sensor, stack in inputs.items():
                        total[sensor] += share * stack[image][(slice(None), *here)].mean(dim=(1, 2)).numpy()
            if area >= 1:
                expected.append((toy_scenes.ids[image], index, name, area, total["rgb"] / area, total["depth"] / area))
    assert len(expected) > 20
    assert extracted.rows["image"].tolist() == [row[0] for row in expected]
    assert extracted.rows["class"].tolist() == [row[1] for row in expected]
    assert extracted.rows["name"].tolist() == [row[2] for row in expected]
    np.testing.assert_allclose(extracted.rows["cells"], [row[3] for row in expected], rtol=1e-5)
    np.testing.assert_allclose(extracted.blocks["rgb/shared"], [row[4] for row in expected], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(extracted.blocks["depth/private"], [row[5] for row in expected], rtol=1e-4, atol=1e-4)


def test_regions_do_not_depend_on_the_batch_size(extracted, toy_scenes, toy_card):
    whole = extract_regions(Pooled(), toy_scenes, toy_card, ("rgb", "depth"), 64, CPU)
    pd.testing.assert_frame_equal(whole.rows, extracted.rows)
    for name, block in extracted.blocks.items():
        assert block.dtype == np.float32
        np.testing.assert_allclose(whole.blocks[name], block, rtol=1e-5, atol=1e-5)


def test_scenes_without_labels_are_an_error(toy_scenes, toy_card):
    blank = type(toy_scenes)(toy_scenes.images, toy_scenes.valid, np.full_like(toy_scenes.labels, 255), toy_scenes.ids)
    with pytest.raises(ValueError, match="no class covers one bottleneck cell in any of the 16 scenes"):
        extract_regions(Pooled(), blank, toy_card, ("rgb",), 8, CPU)


def test_latents_come_back_from_disk_as_they_were(extracted, tmp_path):
    extracted.save(tmp_path / "new" / "latents.npz")
    loaded = Latents.load(tmp_path / "new" / "latents.npz")
    assert list(loaded.blocks) == list(extracted.blocks)
    for name, block in extracted.blocks.items():
        np.testing.assert_array_equal(loaded.blocks[name], block)
        assert loaded.blocks[name].dtype == np.float32
    pd.testing.assert_frame_equal(loaded.rows, extracted.rows, check_dtype=False)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["latents.npz"]


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz holds weights, but no rows/image"):
        Latents.load(tmp_path / "other.npz")


def test_a_block_of_another_length_is_refused():
    with pytest.raises(ValueError, match="block rgb/shared has 2 rows, but there are 3 regions"):
        Latents({"rgb/shared": np.zeros((2, 4), np.float32)}, made([3]).rows)


@pytest.fixture(scope="module")
def units(toy_scenes, toy_card):
    return extract(Pooled().train(), toy_scenes, toy_card, ("rgb", "depth"), 5, CPU)


def test_all_units_are_there_unless_one_asks_for_some(units, toy_scenes, toy_card):
    assert {unit: latents.unit for unit, latents in units.items()} == {u: u for u in ("image", "region", "pixel")}
    assert list(extract(Pooled(), toy_scenes, toy_card, ("rgb",), 5, CPU, ("pixel",))) == ["pixel"]
    with pytest.raises(ValueError, match="unit"):
        extract(Pooled(), toy_scenes, toy_card, ("rgb",), 5, CPU, ("pixels",))


def test_an_image_is_the_mean_of_its_cells_and_has_no_class(units, toy_scenes, toy_card):
    latents = units["image"]
    inputs = plain(toy_scenes, list(range(len(toy_scenes))), toy_card, ("rgb", "depth"), CPU).images
    assert latents.rows["image"].tolist() == toy_scenes.ids
    assert set(latents.rows["class"]) == {255}
    assert set(latents.rows["cells"]) == {12.0}
    assert (latents.rows[["left", "top", "right", "bottom"]] == [0, 0, 64, 48]).all(axis=None)
    for sensor in ("rgb", "depth"):
        expected = [scene.mean(dim=(1, 2)).numpy() for scene in inputs[sensor]]
        np.testing.assert_allclose(latents.blocks[f"{sensor}/shared"], expected, rtol=1e-4, atol=1e-4)
        assert latents.blocks[f"{sensor}/shared"].dtype == np.float32


def test_a_cell_is_its_vector_its_class_and_its_place(units, toy_scenes, toy_card):
    """Sixteen by sixteen pixels have one class; the scenes have fewer cells than may be chosen of either class."""
    latents = units["pixel"]
    inputs = plain(toy_scenes, list(range(len(toy_scenes))), toy_card, ("rgb", "depth"), CPU).images
    assert len(latents) == 12 * len(toy_scenes)
    for index, row in enumerate(latents.rows.itertuples()):
        scene, place = toy_scenes.ids.index(row.image), np.s_[row.top : row.bottom, row.left : row.right]
        assert (row.right - row.left, row.bottom - row.top, row.cells) == (16, 16, 1)
        assert (row.x, row.y) == ((row.left + 8) / 64, (row.top + 8) / 48)
        assert toy_scenes.labels[scene][place][8, 8] == row[latents.rows.columns.get_loc("class") + 1]
        for sensor in ("rgb", "depth"):
            expected = inputs[sensor][scene][(slice(None), *place)].mean(dim=(1, 2))
            np.testing.assert_allclose(latents.blocks[f"{sensor}/private"][index], expected, rtol=1e-4, atol=1e-4)
    assert latents.rows["name"].tolist() == [toy_card.classes[k] for k in latents.classes]
    assert not latents.rows.duplicated(["image", "x", "y"]).any()
    assert "cell" not in latents.rows
    assert "position" not in latents.rows


def test_rows_carry_the_factors_of_their_scene(units, toy_scenes):
    known = dict(zip(toy_scenes.ids, toy_scenes.factors["room_width_m"], strict=True))
    for latents in units.values():
        assert latents.factors["room_width_m"].tolist() == [known[image] for image in latents.rows["image"]]


def test_images_and_cells_come_back_from_disk_as_they_were(units, tmp_path):
    for unit in ("image", "pixel"):
        units[unit].save(tmp_path / "latents.npz")
        loaded = Latents.load(tmp_path / "latents.npz")
        assert loaded.unit == unit
        pd.testing.assert_frame_equal(loaded.rows, units[unit].rows, check_dtype=False)


def test_unlabelled_cells_are_left_out_and_a_scene_may_have_none(toy_scenes, toy_card):
    labels = toy_scenes.labels.copy()
    labels[0], labels[1, :32] = 255, 255
    partly = replace(toy_scenes, labels=labels)
    rows = extract(Pooled(), partly, toy_card, ("rgb",), 5, CPU, ("pixel",))["pixel"].rows
    counts = rows["image"].value_counts()
    assert toy_scenes.ids[0] not in counts
    assert counts[toy_scenes.ids[1]] == 4
    assert (rows.loc[rows["image"] == toy_scenes.ids[1], "top"] == 32).all()
    assert (rows["class"] != 255).all()


def test_the_class_of_a_cell_is_that_at_its_centre(toy_card):
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[0, 8, 8], labels[0, 16:, 16:], labels[0, 24, 24] = 2, 3, 1
    found = pixels(labels, toy_card, (2, 2), (0, 0))
    assert found["class"].tolist() == [2, 0, 0, 1]
    assert found["cell"].tolist() == [0, 1, 2, 3]


def test_at_most_so_many_cells_of_a_scene_are_chosen_as_many_of_each_class(toy_card):
    labels = torch.zeros(2, 20, 20, dtype=torch.int64)
    labels[:, 10:], labels[:, 0, :3] = 1, 2
    found = pixels(labels, toy_card, (20, 20), (0, 0), most=40)
    for _, scene in found.groupby("position"):
        assert scene["class"].value_counts().to_dict() == {0: 18, 1: 18, 2: 3}
        assert scene["cell"].is_monotonic_increasing
    first, second = (set(found.loc[found["position"] == position, "cell"]) for position in (0, 1))
    assert first != second  # every scene draws for itself


def test_a_stratified_choice_is_random_and_repeatable():
    classes = np.repeat([7, 3], [30, 50])
    drawn = [stratified(classes, 20, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert np.bincount(classes[drawn[0]])[[3, 7]].tolist() == [10, 10]
    assert len(set(drawn[0])) == 20
    assert not len(stratified(classes[:0], 20, np.random.default_rng(0)))


def test_every_row_of_a_large_class_is_as_likely_as_any_other():
    classes = np.repeat([0, 1], [12, 4])
    hits = np.zeros(16)
    for seed in range(400):
        hits[stratified(classes, 8, np.random.default_rng(seed))] += 1
    assert (hits[12:] == 400).all()
    np.testing.assert_allclose(hits[:12] / 400, 4 / 12, atol=0.1)


def test_the_seed_decides_which_cells(toy_scenes, toy_card, monkeypatch):
    monkeypatch.setitem(PLACES, "pixel", partial(pixels, most=4))
    drawn = [
        extract(Pooled(), toy_scenes, toy_card, ("rgb",), 5, CPU, ("pixel",), seed)["pixel"].rows[["x", "y"]].to_numpy()
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert drawn[0].shape != drawn[2].shape or (drawn[0] != drawn[2]).any()


def test_images_are_numbered_in_order_of_appearance_and_sensors_are_chosen():
    latents = made([2, 3])
    latents.rows["image"] = ["b", "b", "a", "c", "a"]
    assert latents.images.tolist() == [0, 0, 1, 2, 1]
    assert list(latents.of(["depth"]).blocks) == ["depth/shared", "depth/private"]
    assert latents.of(["depth", "rgb"]).sensors == ("depth", "rgb")


def test_a_sample_of_rows_keeps_their_order_and_their_blocks_together():
    latents = made([50, 50])
    drawn = latents.sample(30, np.random.default_rng(0))
    picked = drawn.blocks["rgb/shared"][:, 0]
    assert len(drawn) == 30
    assert (np.diff(picked) > 0).all()
    assert drawn.classes.tolist() == (picked >= 50).astype(int).tolist()
    assert latents.sample(100, np.random.default_rng(0)) is latents


def test_stacked_vectors_say_which_sensor_each_is_of():
    latents = Latents({f"{s}/shared": np.full((3, 1), v) for s, v in (("rgb", 1.0), ("depth", 2.0))}, made([3]).rows)
    vectors, rows = latents.stacked("shared")
    assert vectors[:, 0].tolist() == [1, 1, 1, 2, 2, 2]
    assert rows["sensor"].tolist() == ["rgb"] * 3 + ["depth"] * 3
