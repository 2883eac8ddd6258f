"""A split in memory: which scenes, how they are resized, and that the cache gives them back or not at all."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crodino_lib.config import DataConfig, cache_dir
from crodino_lib.data import scene_cache
from crodino_lib.data.folder import open_folder
from crodino_lib.data.scene_cache import load_scenes, resize_sample

SENSORS = ("rgb", "depth")


def config(root, **settings) -> DataConfig:
    return DataConfig(dataset="folder", root=str(root), **{"size": "32x32", **settings})


def load(root, split="train", sensors=SENSORS, **settings):
    chosen = config(root, **settings)
    return load_scenes(open_folder(chosen), split, chosen, sensors)


def files() -> dict:
    return {path: path.stat().st_mtime_ns for path in (cache_dir() / "decoded").rglob("*.npy")}


@pytest.fixture
def counted(monkeypatch):
    """Counts the scenes that are decoded."""
    calls = []
    original = scene_cache.resize_sample
    monkeypatch.setattr(scene_cache, "resize_sample", lambda sample, size: calls.append(1) or original(sample, size))
    return calls


def assert_equal(one, other) -> None:
    assert one.ids == other.ids
    np.testing.assert_array_equal(one.labels, other.labels)
    for name in one.images:
        np.testing.assert_array_equal(one.images[name], other.images[name])
    for name in one.valid:
        np.testing.assert_array_equal(one.valid[name], other.valid[name])


def test_a_split_is_held_in_the_types_that_training_expects(mini):
    scenes = load(mini)
    count = len(scenes)
    assert count == len(scenes.ids) > 2
    assert scenes.images["rgb"].shape == (count, 3, 32, 32)
    assert scenes.images["rgb"].dtype == np.uint8
    assert scenes.images["depth"].dtype == np.float32
    assert scenes.valid["depth"].shape == (count, 1, 32, 32)
    assert scenes.valid["depth"].dtype == bool
    assert scenes.labels.shape == (count, 32, 32)
    assert scenes.labels.dtype == np.uint8
    assert set(np.unique(scenes.labels)) == {0, 1, 2, 255}


def test_scenes_are_in_the_order_of_their_ids_and_equal_what_is_on_disk(mini):
    scenes = load(mini)
    dataset = open_folder(config(mini))
    for index, scene_id in enumerate(scenes.ids):
        small = resize_sample(dataset.read(scene_id), (32, 32))
        np.testing.assert_array_equal(scenes.images["rgb"][index], small["rgb"])
        np.testing.assert_array_equal(scenes.images["depth"][index], small["depth"])
        np.testing.assert_array_equal(scenes.labels[index], small["label"])


# -- resizing


def sample_of(depth, valid, label=None, rgb=None):
    height, width = depth.shape
    return {
        "id": "x",
        "rgb": np.zeros((3, height, width), np.uint8) if rgb is None else rgb,
        "depth": np.where(valid, depth, 0).astype(np.float32)[None],
        "depth_valid": valid[None],
        "label": np.zeros((height, width), np.int64) if label is None else label,
    }


def test_depth_is_the_mean_of_valid_pixels_only():
    generator = np.random.default_rng(0)
    depth, valid = generator.uniform(2, 9, (24, 32)), generator.random((24, 32)) < 0.6
    valid[:4, :4] = False
    small = resize_sample(sample_of(depth, valid), (8, 6))
    for row in range(6):
        for column in range(8):
            cell = np.s_[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            inside = depth[cell][valid[cell]]
            assert small["depth_valid"][0, row, column] == (len(inside) >= 8)
            expected = inside.mean() if len(inside) >= 8 else 0
            assert small["depth"][0, row, column] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (48, 16), (80, 64)])
def test_depth_never_mixes_with_holes_at_any_size(size):
    generator = np.random.default_rng(1)
    valid = generator.random((37, 53)) < 0.7
    sample = sample_of(generator.uniform(5, 6, (37, 53)), valid)
    sample["depth"][~sample["depth_valid"]] = 99
    small = resize_sample(sample, size)
    kept = small["depth_valid"]
    assert 0 < kept.mean() < 1
    assert 4.999 < small["depth"][kept].min() <= small["depth"][kept].max() < 6.001
    assert not small["depth"][~kept].any()


@pytest.mark.parametrize("size", [(16, 16), (48, 16), (80, 64)])
def test_labels_take_nearest_pixels_and_no_id_arises(size):
    label = np.random.default_rng(2).choice([0, 8, 255], (37, 53))
    small = resize_sample(sample_of(np.ones((37, 53)), np.ones((37, 53), bool), label), size)["label"]
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size[::-1], label.shape, strict=True))
    np.testing.assert_array_equal(small, label[np.ix_(rows, columns)])


def test_pictures_are_antialiased():
    stripes = np.zeros((3, 32, 64), np.uint8)
    stripes[..., ::2] = 200
    ones = np.ones((32, 64), bool)
    small = resize_sample(sample_of(np.ones((32, 64)), ones, rgb=stripes), (16, 8))["rgb"]
    assert np.ptp(small.astype(int)) <= 20
    assert small.mean() == pytest.approx(100, abs=3)


def test_sensors_stay_aligned():
    place = np.zeros((48, 64))
    place[8:16, 40:56] = 1
    small = resize_sample(
        sample_of(1 + place, np.ones_like(place, bool), place.astype(int), np.uint8(200 * place[None].repeat(3, 0))),
        (16, 12),
    )
    np.testing.assert_array_equal(small["label"] == 1, small["depth"][0] > 1.5)
    np.testing.assert_array_equal(small["label"] == 1, small["rgb"][0] > 100)


def test_a_scene_of_the_right_size_is_not_touched():
    sample = sample_of(np.ones((16, 16)), np.ones((16, 16), bool))
    assert resize_sample(sample, (16, 16)) is sample


def test_native_size_is_rounded_down_to_what_networks_can_halve(mini):
    chosen = config(mini, size="native")
    assert chosen.pixels(open_folder(chosen).card.native_size) == (48, 32)


# -- which scenes


def test_limit_thins_each_split_evenly_to_its_count(mini):
    everything = load(mini).ids
    few = load(mini, limit=True, scenes=(4, 1, 2))
    assert few.ids == [everything[round(k * (len(everything) - 1) / 3)] for k in range(4)]
    assert len(load(mini, "val", limit=True, scenes=(3, 1, 2))) == 1
    assert len(load(mini, "test", limit=True, scenes=(3, 1, 2))) == 2


def test_without_limit_counts_are_not_looked_at(mini):
    assert load(mini, scenes=(1, 1, 1)).ids == load(mini, limit=True, scenes=(900, 900, 900)).ids


def test_factors_are_those_of_the_scenes_held(mini):
    chosen = config(mini, limit=True, scenes=(2, 1, 1))
    dataset = open_folder(chosen)
    ids = dataset.ids("train")
    dataset.factors = lambda split: pd.DataFrame({"light": range(len(ids))}, index=ids)
    scenes = load_scenes(dataset, "train", chosen, SENSORS)
    assert scenes.factors["light"].tolist() == [0, len(ids) - 1]


@pytest.mark.parametrize(("split", "sensors"), [("tests", SENSORS), ("train", ("rgb", "deph"))])
def test_an_unknown_split_or_sensor_proposes_the_nearest(mini, split, sensors):
    with pytest.raises(ValueError, match=r"does not exist.*Did you mean '(test|depth)'"):
        load(mini, split, sensors)


# -- the cache


def test_the_cache_equals_a_fresh_read_and_decodes_nothing(mini, counted):
    fresh = load(mini)
    assert len(counted) == len(fresh)
    assert_equal(fresh, load(mini))
    one = load(mini, sensors=("depth",))  # one sensor uses the cache of two
    assert set(one.images) == {"depth"}
    np.testing.assert_array_equal(one.images["depth"], fresh.images["depth"])
    assert len(counted) == len(fresh)


def test_other_sizes_files_and_training_versions_are_decoded_anew(mini, counted, monkeypatch):
    count = len(load(mini))
    load(mini, size="48x32")
    assert len(counted) == 2 * count
    (mini / "Depth/0001.png").write_bytes((mini / "Depth/0002.png").read_bytes())
    load(mini)
    assert len(counted) == 3 * count
    monkeypatch.setattr(scene_cache, "TRAINING_VERSION", -1)
    load(mini)
    assert len(counted) == 4 * count


@pytest.mark.parametrize("damage", ["removed", "truncated", "empty", "one bit", "no checksums"])
def test_a_damaged_cache_is_decoded_anew(mini, counted, damage):
    fresh = load(mini)
    copy = {name: array.copy() for name, array in fresh.images.items()}
    path = next(path for path in files() if path.name == "depth.npy")
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    elif damage == "no checksums":
        (path.parent / "checksums.json").write_text("{")
    else:
        flipped = content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]
        path.write_bytes({"truncated": content[:-100], "empty": b"", "one bit": flipped}[damage])
    again = load(mini)
    assert len(counted) == 2 * len(fresh)
    for name, array in copy.items():
        np.testing.assert_array_equal(again.images[name], array)


def test_an_interrupted_decoding_leaves_nothing_that_could_be_believed(mini, monkeypatch):
    whole = load(mini)
    shutil.rmtree(cache_dir())
    resize, resized = scene_cache.resize_sample, []

    def dying(sample, size):
        resized.append(sample["id"])
        if sample["id"] == whole.ids[7]:
            raise KeyboardInterrupt
        return resize(sample, size)

    monkeypatch.setattr(scene_cache, "resize_sample", dying)
    with pytest.raises(KeyboardInterrupt):
        load(mini)
    assert not files()
    monkeypatch.setattr(scene_cache, "resize_sample", resize)
    assert_equal(load(mini), whole)


def test_the_ends_of_a_large_file_are_checked_and_blocks_between(tmp_path, monkeypatch):
    monkeypatch.setattr(scene_cache, "BLOCK_BYTES", 64)
    monkeypatch.setattr(scene_cache, "BLOCKS", 4)
    path = tmp_path / "large"
    content = np.random.default_rng(0).integers(0, 256, 6400, dtype=np.uint8)
    path.write_bytes(content.tobytes())
    whole = scene_cache._checksum(path)
    for place, noticed in ((0, True), (6399, True), (2112, True), (1000, False)):
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed.tobytes())
        assert (scene_cache._checksum(path) != whole) == noticed, place


def test_two_that_load_at_once_decode_once(mini, counted):
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(load, [mini, mini])
    assert len(counted) == len(one)
    assert_equal(one, other)


def test_writing_to_the_arrays_never_reaches_the_cache(mini):
    scenes = load(mini)
    scenes.labels[:] = 7
    scenes.images["rgb"][:] = 0
    again = load(mini)
    assert not (again.labels == 7).any()
    assert again.images["rgb"].any()


def test_one_line_says_what_was_decoded(mini, capsys):
    load(mini, "test")
    load(mini, "test")
    assert capsys.readouterr().out.count("mini test: decoded 3 scenes at 32x32") == 1


# -- what is refused


def refuse(mini, error, match, change):
    """Loading stops with ``error`` where ``change`` is made to every sample, and nothing is cached."""
    chosen = config(mini)
    dataset = open_folder(chosen)
    read = dataset.read
    dataset.read = lambda scene_id: {**(sample := read(scene_id)), **change(sample)}
    with pytest.raises(error, match=match):
        load_scenes(dataset, "train", chosen, SENSORS)
    assert not files()


def test_a_scene_that_breaks_the_contract_is_refused(mini):
    refuse(mini, ValueError, r"label holds \[9\]", lambda sample: {"label": np.full((40, 48), 9)})
    infinite = np.full((1, 40, 48), np.inf, np.float32)
    refuse(mini, ValueError, r"depth holds values that are not finite", lambda sample: {"depth": infinite})


def test_all_reasons_against_training_on_a_split_are_named(mini):
    wrong = lambda sample: {"depth": 1000 * sample["depth"], "label": np.full((40, 48), 255)}  # noqa: E731
    refuse(mini, ValueError, r"(?s)train: no pixel has a label.*train: depth has a mean of .*scale = 0.001", wrong)


def test_a_damaged_picture_is_named_and_nothing_is_cached(mini):
    path = mini / "Depth/0003.png"
    dataset = open_folder(config(mini))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"Depth/0003\.png"):
        load_scenes(dataset, "train", config(mini), SENSORS)
    assert not files()


def test_too_small_a_disk_is_noticed_before_anything_is_decoded(mini, monkeypatch, counted):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"need .* GB in .*CRODINO_CACHE"):
        load(mini)
    assert not counted
