import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from crodino_lib.augment import plain
from crodino_lib.latents.extraction import Latents, balanced, extract_regions

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


def test_a_balanced_sample_has_exactly_as_many_regions_of_every_class():
    sample, counts = balanced(made([50, 20, 30]), seed=0, n=60)
    assert sample.rows["class"].value_counts().to_dict() == {0: 10, 1: 10, 2: 10}  # 60 points are 30 of each sensor
    assert counts["available"].tolist() == [50, 20, 30]
    assert counts["taken"].tolist() == [10, 10, 10]
    assert counts["name"].tolist() == ["c0", "c1", "c2"]


def test_a_rare_class_gives_all_it_has_and_the_others_share_the_rest():
    sample, counts = balanced(made([50, 4, 30]), seed=0, n=88)
    assert counts["taken"].tolist() == [20, 4, 20]
    assert len(sample.rows) == 44


def test_a_sample_keeps_rows_aligned_across_blocks():
    latents = made([50, 20, 30])
    sample, _ = balanced(latents, seed=0, n=60)
    picked = sample.blocks["rgb/shared"][:, 0].astype(int)
    for block in sample.blocks.values():
        np.testing.assert_array_equal(block[:, 0], picked)
    assert sample.rows["class"].tolist() == latents.rows["class"].iloc[picked].tolist()
    assert len(set(picked)) == len(picked)


def test_the_seed_decides_the_sample():
    latents = made([50, 20, 30])
    drawn = [balanced(latents, seed, n=60)[0].blocks["rgb/shared"].ravel().tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_sample_of_everything_is_everything():
    sample, counts = balanced(made([5, 2]), seed=0)
    assert len(sample.rows) == 7
    assert counts["taken"].tolist() == [5, 2]


def test_a_sample_too_small_for_every_class_is_an_error():
    with pytest.raises(ValueError, match="n = 5 is too few for 3 classes of 2 sensors: at least 6"):
        balanced(made([5, 5, 5]), seed=0, n=5)
