import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crodino_lib.config import DataConfig, home
from crodino_lib.data.sample import check_sample
from crodino_lib.data.splits import consecutive_runs
from crodino_lib.datasets.nyuv2 import open_nyu13, open_nyu40

COPY = Path(os.environ.get("CRODINO_NYU_ROOT") or home().parent / "shared/data/nyuv2")
needs_copy = pytest.mark.skipif(not COPY.is_dir(), reason="no copy of NYU Depth v2; set CRODINO_NYU_ROOT")


def load_npz(opener, name, root):
    return opener(DataConfig(dataset=name, root=str(root)))


@pytest.mark.parametrize(("opener", "count"), [(open_nyu13, 13), (open_nyu40, 40)])
def test_the_layout_is_read_in_metres_and_classes(mini_nyu, opener, count):
    dataset = load_npz(opener, f"nyu{count}", mini_nyu)
    assert len(dataset.card.classes) == len(set(dataset.card.classes)) == len(set(dataset.card.palette)) == count
    for split, expected in (("train", 7), ("val", 1), ("test", 2)):
        assert len(dataset.ids(split)) == expected
    sample = dataset.read("0004")
    check_sample(sample, dataset.card)
    raw = np.asarray(Image.open(mini_nyu / "depth/0004.png"))
    np.testing.assert_allclose(sample["depth"][0], raw / 25.5, rtol=1e-6)
    np.testing.assert_array_equal(sample["label"], np.asarray(Image.open(mini_nyu / f"label{count}/0004.png")))


def test_a_pixel_without_depth_is_invalid(mini_nyu, save):
    save(mini_nyu / "depth/0004.png", np.zeros((40, 48), np.uint8))
    sample = load_npz(open_nyu13, "nyu13", mini_nyu).read("0004")
    assert not sample["depth_valid"].any()


def test_a_copy_without_depth_is_refused(mini_nyu):
    (mini_nyu / "depth").rename(mini_nyu / "depths")
    with pytest.raises(FileNotFoundError, match="Did you mean 'depths'"):
        load_npz(open_nyu13, "nyu13", mini_nyu)


def test_the_card_says_that_numbers_are_not_comparable(mini_nyu):
    card = load_npz(open_nyu13, "nyu13", mini_nyu).card
    assert "not comparable" in card.notes
    assert "ECCV 2012" in card.citation
    assert card.licensed


@needs_copy
def test_the_copy_has_the_official_split_and_its_size():
    dataset = load_npz(open_nyu13, "nyu13", COPY)
    train, val, test = (dataset.ids(split) for split in dataset.card.splits)
    assert (len(train) + len(val), len(test)) == (795, 654)
    assert sorted(train + val + test) == [f"{index:04d}" for index in range(1, 1450)]
    assert 80 <= len(val) <= 96
    assert dataset.card.native_size == (640, 480)
    for run in consecutive_runs(train + val):
        assert len({scene_id in val for scene_id in run}) == 1


@needs_copy
@pytest.mark.parametrize(("opener", "count"), [(open_nyu13, 13), (open_nyu40, 39)])
def test_scenes_of_the_copy_keep_the_contract(opener, count):
    dataset = load_npz(opener, "nyu13" if count == 13 else "nyu40", COPY)
    seen = set()
    for scene_id in dataset.ids("train")[::25]:
        sample = dataset.read(scene_id)
        check_sample(sample, dataset.card)
        assert 0.5 < sample["depth"].min() < sample["depth"].max() <= 10
        seen |= set(np.unique(sample["label"]).tolist())
    assert len(seen - {255}) > 0.8 * count
    assert max(seen - {255}) < count


@needs_copy
def test_the_normalisation_is_that_of_the_copy():
    dataset = load_npz(open_nyu13, "nyu13", COPY)
    values = np.concatenate([dataset.read(i)["depth"].ravel()[::50] for i in dataset.ids("train")[::10]])
    sensor = dataset.card.sensors["depth"]
    assert values.mean() == pytest.approx(sensor.mean[0], abs=0.15)
    assert values.std() == pytest.approx(sensor.std[0], abs=0.15)
