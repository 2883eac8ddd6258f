"""NYU Depth v2: the original file with reversed axes, the export of nicr, the tree of 8 bits, and its tables."""

import hashlib
import os
import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from miniatures.nyu import gradient, write, write_export
from PIL import Image

from crodino_lib.config import DataConfig, home
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.sample import check_sample
from crodino_lib.data.splits import consecutive_runs
from crodino_lib.datasets import nyu_mat
from crodino_lib.datasets.nyu import CLASSES, open_nyu13, open_nyu40
from crodino_lib.datasets.nyu_mat import (
    TABLES,
    NyuMatDataset,
    classes_of_894,
    expand,
    forty_of_894,
    official_split,
)

COPY = Path(os.environ.get("CRODINO_NYU_ROOT") or home().parent / "shared/data/nyuv2")
needs_copy = pytest.mark.skipif(not COPY.is_dir(), reason="no copy of NYU Depth v2; set CRODINO_NYU_ROOT")
pytestmark = pytest.mark.filterwarnings("ignore::crodino_lib.data.layouts.DataWarning")
OPENERS = {13: open_nyu13, 40: open_nyu40}


def open_copy(root, count=40, **options):
    return OPENERS[count](DataConfig(dataset=f"nyu{count}", root=str(root), options=options))


def scenes_of(dataset):
    return {split: dataset.ids(split) for split in dataset.card.splits}


def rewrite(path, key, change):
    """Replace an array of the file by what ``change`` makes of it; None removes it."""
    with h5py.File(path, "r+") as file:
        value = change(file[key][()])
        del file[key]
        if value is not None:
            file[key] = value


# -- tables


def test_the_tables_are_those_of_the_published_files():
    assert hashlib.sha256(forty_of_894().tobytes()).hexdigest() == (
        "893808edf64dc474bcb9df5e2c134841ebfeff590e49ae91bfe7c6e3322795d6"
    )
    assert hashlib.sha256(",".join(map(str, expand(TABLES["split"]["test"]))).encode()).hexdigest() == (
        "6e8da89f5e5d8d0972916b91530bd5ac245258e502a069be28388dce8d8f0a15"
    )
    forty = TABLES["forty"]
    assert (len(set(forty["names"])), len(expand(forty["otherstructure"])), len(expand(forty["otherfurniture"]))) == (
        *(37, 68, 82),
    )
    assert len(TABLES["thirteen"]["of_forty"]) == 40
    assert expand(["1-3,9", "12"]) == [1, 2, 3, 9, 12]


def test_the_official_split_has_795_and_654_scenes_counted_from_one():
    split = official_split()
    assert {name: len(ids) for name, ids in split.items()} == {"train": 795, "test": 654}
    assert sorted(split["train"] + split["test"]) == [f"{number:04d}" for number in range(1, 1450)]
    assert official_split(9) == {"train": [f"000{i}" for i in range(3, 9)], "test": ["0001", "0002", "0009"]}
    assert official_split(9, first=0)["test"] == ["0000", "0001", "0008"]
    assert official_split(2000) == split


@pytest.mark.parametrize(
    ("name", "forty", "thirteen"),  # numbers by `names` of the file: 4 ceiling, 5 chair, 15 paper, 17 refrigerator, ...
    [
        (21, "wall", "wall"),
        (11, "floor", "floor"),
        (4, "ceiling", "ceiling"),
        (5, "chair", "chair"),
        (28, "door", "wall"),
        (59, "window", "window"),
        (15, "paper", "objects"),
        (17, "refridgerator", "furniture"),
        (45, "whiteboard", "objects"),
        (172, "television", "tv"),
        (20, "otherprop", "objects"),  # named "unknown", and yet a class
        (894, "otherprop", "objects"),
        (8, "otherstructure", "objects"),
        (12, "otherfurniture", "furniture"),
    ],
)
def test_a_name_of_the_894_becomes_its_class(name, forty, thirteen):
    assert list(CLASSES[40])[classes_of_894(40)[name]] == forty
    assert list(CLASSES[13])[classes_of_894(13)[name]] == thirteen


@pytest.mark.parametrize("count", [13, 40])
def test_every_class_has_a_name_and_only_unlabelled_pixels_are_ignored(count):
    classes = classes_of_894(count)
    assert (classes.shape, classes.dtype) == ((895,), np.int64)
    assert set(classes[1:]) == set(range(count))
    assert classes[0] == 255


# -- the original file


def test_a_whole_file_has_the_official_scenes_and_warns_of_nothing(tmp_path):
    path = write(tmp_path, count=1449)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = open_copy(path)
    scenes, official = scenes_of(dataset), official_split()
    assert sorted(scenes["train"] + scenes["val"]) == official["train"]
    assert scenes["test"] == official["test"]
    assert 80 <= len(scenes["val"]) <= 96
    assert dataset.card.native_size == (8, 6)
    for scene_id in ("0001", "0795", "1449"):
        sample = dataset.read(scene_id)
        check_sample(sample, dataset.card)
        assert set(sample["rgb"][2].ravel()) == {int(scene_id) % 256}


@pytest.mark.parametrize("count", [13, 40])
def test_a_scene_is_read_upright_in_metres_and_classes(tmp_path, count):
    dataset = open_copy(write(tmp_path), count)
    sample, expected = dataset.read("0004"), gradient(4, (8, 6))
    check_sample(sample, dataset.card)
    for row in range(6):
        assert set(sample["rgb"][0, row]) == {row}
    for column in range(8):
        assert set(sample["rgb"][1, :, column]) == {column}
    np.testing.assert_array_equal(sample["depth"][0], expected["depths"])
    assert sample["depth_valid"].all()
    np.testing.assert_array_equal(sample["label"], classes_of_894(count)[expected["labels"]])
    assert dataset.card.name == f"nyu{count}"
    assert list(dataset.card.classes) == list(CLASSES[count])
    assert len(set(dataset.card.palette)) == count
    assert dataset.card.sensors["depth"].mean == (2.841949,)


def test_raw_depth_has_holes_and_refined_depth_has_none(tmp_path):
    path = write(tmp_path)
    sample, expected = open_copy(path, depth="raw").read("0004"), gradient(4, (8, 6))["rawDepths"]
    np.testing.assert_array_equal(sample["depth"][0], expected)
    np.testing.assert_array_equal(sample["depth_valid"][0], expected > 0)
    assert 0 < sample["depth_valid"].mean() < 1
    card = open_copy(path, depth="raw").card
    assert (card.sensors["depth"].mean, card.sensors["depth"].std) == ((2.769019,), (1.350417,))
    assert "raw" in card.notes


def test_all_894_names_are_read_back(tmp_path):
    dataset = open_copy(write(tmp_path))
    seen = {}
    for scene_id in (f"{number:04d}" for number in range(1, 28)):
        raw = gradient(int(scene_id), (8, 6))["labels"]
        seen |= dict(zip(raw.ravel().tolist(), dataset.read(scene_id)["label"].ravel().tolist(), strict=True))
    assert seen == dict(enumerate(classes_of_894(40).tolist()))


def test_depth_that_is_no_number_is_invalid(tmp_path):
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        file["depths"][3, 2, 1] = np.nan
    sample = open_copy(path).read("0004")
    assert np.argwhere(~sample["depth_valid"][0]).tolist() == [[1, 2]]
    assert sample["depth"][0, 1, 2] == 0


def test_the_border_is_left_out_where_that_is_asked_for(tmp_path):
    path = write(tmp_path, size=(640, 480), numbers=[4])
    whole, inside = open_copy(path), open_copy(path, crop_border=True)
    assert (whole.card.native_size, inside.card.native_size) == ((640, 480), (561, 427))
    assert "border" in inside.card.notes
    assert "border" not in whole.card.notes
    full, cut = whole.read("0004"), inside.read("0004")
    check_sample(cut, inside.card)
    assert cut["id"] == "0004"
    for name in ("rgb", "depth", "depth_valid", "label"):
        np.testing.assert_array_equal(cut[name], full[name][..., 44:471, 40:601])
        assert cut[name].flags["C_CONTIGUOUS"]


def test_a_border_of_another_size_is_not_guessed(tmp_path):
    with pytest.raises(ValueError, match=r"nyu_depth.* has 8x6 pixels; crop_border"):
        open_copy(write(tmp_path), crop_border=True)


def test_it_is_read_by_threads_and_processes_each_with_a_handle_of_its_own(tmp_path, monkeypatch):
    dataset, opens = open_copy(write(tmp_path)), []
    expected = [dataset.read(scene_id)["rgb"] for scene_id in dataset.ids("train")]
    original = nyu_mat.open_entries
    monkeypatch.setattr(nyu_mat, "open_entries", lambda *given: opens.append(given) or original(*given))
    with ThreadPoolExecutor(4) as pool:
        found = [sample["rgb"] for sample in pool.map(dataset.read, dataset.ids("train"))]
    np.testing.assert_array_equal(found, expected)
    assert 1 <= len(opens) <= 4
    opens.clear()
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
    dataset.read("0003")
    dataset.read("0004")
    assert len(opens) == 1


def test_the_fingerprint_is_that_of_content_and_choices(tmp_path):
    def noise(number, size):
        pixels = np.random.default_rng(number).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        return gradient(number, size) | {"images": pixels}

    path = write(tmp_path / "one", size=(640, 480), numbers=[3], scene=noise)
    first = open_copy(path).fingerprint()
    shutil.copy(path, tmp_path / "moved.mat")
    assert open_copy(tmp_path / "moved.mat").fingerprint() == first
    chosen = ((13, {}), (40, {"depth": "raw"}), (40, {"crop_border": True}))
    others = [open_copy(path, count, **options).fingerprint() for count, options in chosen]
    with h5py.File(path, "r+") as file:
        file["labels"][2, 0, 0] += 1  # which lies behind almost a megabyte of noise
    others.append(open_copy(path).fingerprint())
    assert len({first, *others}) == 5


@pytest.mark.parametrize(("count", "train"), [(27, 18), (1460, 795)])
def test_a_file_with_other_than_1449_scenes_warns_and_keeps_the_official_split(tmp_path, count, train):
    path = write(tmp_path, count=count, numbers=[3])
    with pytest.warns(DataWarning, match=rf"labeled\.mat holds {count} scenes, published 1449"):
        scenes = scenes_of(open_copy(path))
    assert len(scenes["train"]) + len(scenes["val"]) == train
    assert not set(scenes["test"]) - set(official_split()["test"])


def test_a_file_without_a_scene_to_train_on_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds 2 scene\(s\), expected 1449"):
        open_copy(write(tmp_path, count=2))


# -- bad files


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("depths", lambda _: None, r"has no array 'depths'; it holds .*labels.*Did you mean 'rawDepths'"),
        ("labels", lambda _: None, r"has no array 'labels'; it holds .*images"),
        ("images", lambda x: x.transpose(0, 1, 3, 2), r"images is of shape \(27, 3, 6, 8\).*3, 640, 480.*other axes"),
        ("images", lambda x: x.transpose(0, 3, 2, 1), r"images is of shape \(27, 6, 8, 3\)"),
        ("images", lambda x: x[:, 0], r"images is of shape \(27, 8, 6\)"),
        ("images", lambda x: x / np.float32(255), r"images is float32 .*expected uint8 \(27, 3, 8, 6\)"),
        ("depths", lambda x: x.transpose(0, 2, 1), r"depths is float32 \(27, 6, 8\), expected float32 \(27, 8, 6\)"),
        ("depths", lambda x: (x * 1000).astype(np.uint16), r"depths is uint16 .*expected float32"),
        ("labels", lambda x: x.astype(np.int32), r"labels is int32 .*expected uint16"),
        ("labels", lambda x: x[:-1], r"labels is uint16 \(26, 8, 6\), expected uint16 \(27, 8, 6\)"),
    ],
)
def test_an_array_that_is_another_is_named(tmp_path, key, change, message):
    path = write(tmp_path)
    rewrite(path, key, change)
    with pytest.raises(ValueError, match=f"(?s)nyu_depth_v2_labeled.*{message}"):
        open_copy(path)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("depths", lambda x: x * 1000, r"depth is .* to .* m, expected 0 to 10; the file holds another unit"),
        ("depths", lambda x: -x, r"depth is -.* m, expected 0 to 10"),
        ("labels", lambda x: x + np.uint16(800), r"labels holds \d+, expected 0\.\.894"),
    ],
)
def test_values_that_cannot_be_are_named_with_their_scene(tmp_path, key, change, message):
    path = write(tmp_path)
    rewrite(path, key, change)
    with pytest.raises(ValueError, match=f"labeled.mat, scene 0004: {message}"):
        open_copy(path).read("0004")


def save_as_version_5(path):
    scipy.io.savemat(path, {"labels": np.zeros((4, 6, 5), np.uint16)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (save_as_version_5, r"b'MATLAB 5.0 MAT-file'.*MATLAB's older format"),
        (lambda path: path.write_bytes(path.read_bytes()[:-900]), r"cannot be read as the HDF5 file.*truncated"),
        (lambda path: path.write_bytes(b""), r"\(0 bytes, starting with b''\)"),
        (lambda path: path.write_text("<!DOCTYPE html><title>404"), r"starting with b'<!DOCTYPE"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), r"starting with b'version https"),
    ],
    ids=["version 5", "truncated", "empty", "a page", "a pointer"],
)
def test_a_file_that_is_not_the_original_is_refused(tmp_path, damage, message):
    path = write(tmp_path)
    damage(path)
    for root in (path, tmp_path):
        with pytest.raises(ValueError, match=f"(?s)nyu_depth_v2_labeled.mat .*{message}"):
            open_copy(root)


def test_damaged_pixels_are_an_error_that_names_the_scene(tmp_path):
    path = write(tmp_path)
    with h5py.File(path) as file:
        chunk = file["labels"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    with pytest.raises(ValueError, match=r"labeled.mat, scene 0004 cannot be read"):
        open_copy(path).read("0004")


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"labeled.mat is read by h5py.*crodino\[nyu\]"):
        open_copy(path)


@pytest.mark.parametrize(
    ("change", "largest"),
    [
        (lambda x: forty_of_894()[x].astype(np.uint16), 40),
        (lambda x: np.array([0, *TABLES["thirteen"]["of_forty"]], np.uint16)[forty_of_894()[x]], 13),
        (lambda x: np.where(x == 0, 255, forty_of_894()[x] - 1).astype(np.uint16), 39),
    ],
)
def test_labels_that_somebody_mapped_to_classes_are_refused(tmp_path, change, largest):
    path = write(tmp_path)
    rewrite(path, "labels", change)
    for count in (13, 40):
        message = rf"labels holds ids up to {largest} in the 14 scenes looked at, expected the original's 1\.\.894"
        with pytest.raises(ValueError, match=message):
            open_copy(path, count)


def test_labels_of_scenes_that_are_empty_are_no_reason_to_refuse(tmp_path):
    assert open_copy(write(tmp_path, count=1449, numbers=[2])).read("0003")["label"].min() == 255


# -- which layout


def test_the_file_is_found_in_folders_and_whatever_its_case(tmp_path):
    path = write(tmp_path / "deep/er")
    expected = open_copy(path).fingerprint()
    assert open_copy(tmp_path).fingerprint() == open_copy(tmp_path / "deep").fingerprint() == expected
    path.rename(path.with_name("NYU_depth_v2_Labeled.mat"))
    assert open_copy(tmp_path).fingerprint() == expected
    path = path.with_name("NYU_depth_v2_Labeled.mat").rename(path.with_name("mine"))
    assert open_copy(path).fingerprint() == expected


def test_of_two_files_one_must_be_named(tmp_path):
    write(tmp_path / "one")
    write(tmp_path / "two")
    with pytest.raises(ValueError, match=r"holds 2 files nyu_depth_v2_labeled.mat; give one as root: .*one/.*two/"):
        open_copy(tmp_path)


def test_a_misspelt_file_proposes_its_neighbour(tmp_path):
    write(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"labelled.mat does not exist.*Did you mean 'nyu_depth_v2_labeled.mat'"
    ):
        open_copy(tmp_path / "nyu_depth_v2_labelled.mat")


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "nyu_depth_v2_labeled.mat.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ValueError, match="is an archive; unpack it"):
        open_copy(tmp_path / "nyu_depth_v2_labeled.mat.gz")
    with pytest.raises(FileNotFoundError, match=r"Unpack nyu_depth_v2_labeled.mat.gz first"):
        open_copy(tmp_path)


def test_a_folder_of_no_layout_says_what_each_expects(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        open_copy(tmp_path)
    for part in (
        "pictures/",
        "label40, rgb",
        "train/semantic_40",
        "does not hold the original nyu_depth_v2_labeled.mat",
    ):
        assert part in str(error.value)


def test_the_original_goes_before_a_tree(tmp_path):
    write(tmp_path)
    write_export(tmp_path)
    assert isinstance(open_copy(tmp_path), NyuMatDataset)


@pytest.mark.parametrize("count", [13, 40])
def test_the_tree_of_8_bits_is_read_in_metres_and_classes(mini_nyu, count):
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(mini_nyu / "depth/0005.png")
    dataset = open_copy(mini_nyu, count)
    assert len(dataset.card.classes) == len(set(dataset.card.classes)) == len(set(dataset.card.palette)) == count
    assert [len(ids) for ids in scenes_of(dataset).values()] == [7, 1, 2]
    assert "not comparable" in dataset.card.notes
    assert "ECCV 2012" in dataset.card.citation
    sample = dataset.read("0004")
    check_sample(sample, dataset.card)
    raw = np.asarray(Image.open(mini_nyu / "depth/0004.png"))
    np.testing.assert_allclose(sample["depth"][0], raw / 25.5, rtol=1e-6)
    np.testing.assert_array_equal(sample["label"], np.asarray(Image.open(mini_nyu / f"label{count}/0004.png")))
    assert not dataset.read("0005")["depth_valid"].any()


@pytest.mark.parametrize("options", [{"depth": "raw"}, {"crop_border": True}])
def test_the_tree_of_8_bits_refuses_what_it_does_not_have(mini_nyu, options):
    with pytest.raises(ValueError, match=r"is a tree of 8 bits: it has no raw depth.*crop_border need"):
        open_copy(mini_nyu, **options)


def test_the_tree_of_8_bits_may_lie_deeper_and_needs_the_labels_that_are_asked_for(mini_nyu):
    assert open_copy(mini_nyu.parent).fingerprint() == open_copy(mini_nyu).fingerprint()
    shutil.rmtree(mini_nyu / "label13")
    assert len(open_copy(mini_nyu, 40).ids("test")) == 2
    with pytest.raises(FileNotFoundError, match="expected the folders label13, rgb"):
        open_copy(mini_nyu, 13)


# -- nicr's export


@pytest.mark.parametrize(("count", "depth"), [(13, "raw"), (40, "refined")])
def test_the_export_reads_as_the_original_does_but_for_ids_and_millimetres(tmp_path, count, depth):
    original = open_copy(write(tmp_path / "mat"), count, depth=depth)
    export = open_copy(write_export(tmp_path / "export"), count, depth=depth)
    assert export.card == original.card
    for split, ids in scenes_of(original).items():
        assert export.ids(split) == [f"{int(scene_id) - 1:04d}" for scene_id in ids]
    for scene_id in original.ids("val") + original.ids("test"):
        one, other = original.read(scene_id), export.read(f"{int(scene_id) - 1:04d}")
        check_sample(other, export.card)
        for name in ("rgb", "depth_valid", "label"):
            np.testing.assert_array_equal(one[name], other[name])
        np.testing.assert_allclose(one["depth"], other["depth"], atol=0.00101)


def test_a_small_export_warns_that_numbers_do_not_compare(tmp_path):
    with pytest.warns(DataWarning, match=r"train 18 \(published 795\), test 9 \(published 654\)"):
        open_copy(write_export(tmp_path))


def test_the_export_leaves_out_the_border_and_knows_it_for_full_size_only(tmp_path):
    write_export(tmp_path)
    with pytest.raises(ValueError, match=r"first scene of train, has 8x6 pixels; crop_border"):
        open_copy(tmp_path, crop_border=True)
    big = write_export(tmp_path / "big", count=3, size=(640, 480)) / "train"
    for folder in (path.name for path in big.iterdir()):
        shutil.copy(big / folder / "0002.png", tmp_path / "train" / folder / "0002.png")
    shutil.rmtree(tmp_path / "big")
    whole, inside = open_copy(tmp_path), open_copy(tmp_path, crop_border=True)
    assert inside.card.native_size == (561, 427)
    assert inside.fingerprint() != whole.fingerprint()
    cut = inside.read("0002")
    check_sample(cut, inside.card)
    np.testing.assert_array_equal(cut["rgb"], whole.read("0002")["rgb"][:, 44:471, 40:601])
    with pytest.raises(ValueError, match=r"train/depth/0003.png has 8x6 pixels"):
        inside.read("0003")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((6, 8), 28000, np.uint16), r"0002.png: depth is .* to 28 m, expected 0 to 10"),  # 0.1 mm, not 1 mm
        (np.full((6, 8), 100, np.uint8), r"depth/0002.png holds uint8 .*expected kind 'u16'"),
        (np.full((6, 9), 900, np.uint16), r"depth/0002.png has 9x6 pixels"),
    ],
)
def test_depth_of_an_export_that_is_another_is_named(tmp_path, save, array, message):
    save(write_export(tmp_path) / "train/depth/0002.png", array)
    with pytest.raises(ValueError, match=message):
        open_copy(tmp_path).read("0002")


def test_labels_of_an_export_outside_the_classes_are_named(tmp_path, save):
    save(write_export(tmp_path) / "train/semantic_40/0003.png", np.full((6, 8), 41, np.uint8))
    with pytest.raises(ValueError, match=r"semantic_40/0003.png holds the ids \[41\]"):
        open_copy(tmp_path).read("0003")


@pytest.mark.parametrize(("folder", "options"), [("test/depth_raw", {"depth": "raw"}), ("train/rgb", {})])
def test_a_missing_folder_of_an_export_is_named(tmp_path, folder, options):
    shutil.rmtree(write_export(tmp_path) / folder)
    with pytest.raises(FileNotFoundError, match=folder):
        open_copy(tmp_path, **options)


def test_lists_with_carriage_returns_are_the_same_lists(tmp_path):
    expected = scenes_of(open_copy(write_export(tmp_path)))
    for name in ("train.txt", "test.txt"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert scenes_of(open_copy(tmp_path)) == expected


def test_lists_that_count_from_one_or_are_swapped_are_refused(tmp_path):
    write_export(tmp_path)
    lists = {name: (tmp_path / f"{name}.txt").read_text() for name in ("train", "test")}
    (tmp_path / "train.txt").write_text("\n".join(official_split(27)["train"]))
    with pytest.raises(
        ValueError,
        match=r"train.txt names \d+ scene\(s\) that are not in the official train, such as 0"
        r"|3 scene\(s\) are in both train and test",
    ):
        open_copy(tmp_path)
    (tmp_path / "train.txt").write_text(lists["test"] * 2)
    (tmp_path / "test.txt").write_text(lists["train"])
    with pytest.raises(ValueError, match=r"train.txt names 9 scene\(s\) more than once"):
        open_copy(tmp_path)
    (tmp_path / "train.txt").write_text(lists["train"].replace("0026\n", ""))
    (tmp_path / "test.txt").write_text(lists["test"] + "0026\n")
    with pytest.raises(
        ValueError, match=r"test.txt names 1 scene\(s\) that are not in the official test, such as 0026"
    ):
        open_copy(tmp_path)


# -- the copy


@needs_copy
def test_the_copy_has_the_official_split_and_its_size():
    dataset = open_copy(COPY, 13)
    train, val, test = (dataset.ids(split) for split in dataset.card.splits)
    assert (len(train) + len(val), len(test)) == (795, 654)
    assert sorted(train + val + test) == [f"{index:04d}" for index in range(1, 1450)]
    assert 80 <= len(val) <= 96
    assert dataset.card.native_size == (640, 480)
    for run in consecutive_runs(train + val):
        assert len({scene_id in val for scene_id in run}) == 1


@needs_copy
@pytest.mark.parametrize(("count", "occurring"), [(13, 13), (40, 39)])
def test_scenes_of_the_copy_keep_the_contract(count, occurring):
    dataset = open_copy(COPY, count)
    seen = set()
    for scene_id in dataset.ids("train")[::60]:
        sample = dataset.read(scene_id)
        check_sample(sample, dataset.card)
        assert 0.5 < sample["depth"].min() < sample["depth"].max() <= 10
        seen |= set(np.unique(sample["label"]).tolist())
    assert len(seen - {255}) > 0.8 * occurring
    assert max(seen - {255}) < occurring


@needs_copy
def test_the_copy_reads_alike_through_8_bits_and_through_the_original_file(tmp_path):
    name_of_class, forty = np.zeros(256, np.uint16), TABLES["forty"]
    name_of_class[:39] = [*forty["names"], *(expand(forty[name])[0] for name in ("otherstructure", "otherfurniture"))]
    assert name_of_class[255] == 0

    def scene(number, size):
        label, depth = (np.asarray(Image.open(COPY / f"{folder}/{number:04d}.png")) for folder in ("label40", "depth"))
        return {
            "images": np.asarray(Image.open(COPY / f"rgb/{number:04d}.jpg")),
            "depths": (depth / 25.5).astype(np.float32),
            "labels": name_of_class[label],
        }

    numbers = (1, 3, 1400)
    path = write(tmp_path, count=1449, size=(640, 480), numbers=numbers, scene=scene)
    for count in (13, 40):
        original, copy = open_copy(path, count), open_copy(COPY, count)
        assert scenes_of(original) == scenes_of(copy)
        assert original.card.native_size == copy.card.native_size
        for scene_id in (f"{number:04d}" for number in numbers):
            one, other = original.read(scene_id), copy.read(scene_id)
            for name in ("rgb", "depth_valid", "label"):
                np.testing.assert_array_equal(one[name], other[name])
            np.testing.assert_allclose(one["depth"], other["depth"], rtol=2e-7)  # one step of float32
            assert len(np.unique(one["label"])) > 4


@needs_copy
def test_the_normalisation_is_that_of_the_copy():
    dataset = open_copy(COPY, 13)
    values = np.concatenate([dataset.read(i)["depth"].ravel()[::50] for i in dataset.ids("train")[::20]])
    sensor = dataset.card.sensors["depth"]
    assert values.mean() == pytest.approx(sensor.mean[0], abs=0.15)
    assert values.std() == pytest.approx(sensor.std[0], abs=0.15)
