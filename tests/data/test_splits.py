"""Lists of scenes, and what is drawn where there is none."""

import numpy as np
import pytest

from crodino_lib.data.image_files import ImageFiles
from crodino_lib.data.splits import consecutive_runs, hold_out, scene_ids, splits_by_folder

RGB = ImageFiles(dir="RGB")


@pytest.mark.parametrize(
    "text",
    [
        "0001\n0002\n",
        "\ufeff0001\r\n\r\n# a comment\r\n0002\r\n",
        "RGB/0001.jpg\nrgb/0002.PNG",
        "0001 Label/0001.png\n0002\tLabel/0002.png",
        "./RGB/0001\n  0002  ",
    ],
)
def test_every_style_of_list_names_the_same_scenes(text):
    assert scene_ids(text, RGB) == ["0001", "0002"]


def test_a_list_keeps_sub_folders_and_dots_that_are_no_suffix():
    assert scene_ids("set00/V000/I01\nRGB/a.b.png\na.v2", RGB) == ["set00/V000/I01", "a.b", "a.v2"]


def test_a_list_may_name_files_by_their_full_ending():
    assert scene_ids("0001_rgb.png", ImageFiles(dir="RGB", ext="_rgb.png")) == ["0001"]


def test_runs_end_where_numbers_or_folders_change():
    ids = ["a/03", "a/01", "a/02", "b/03", "b/04", "b/09", "x", "00001D", "00002D", "00003N"]
    runs = consecutive_runs(ids)
    assert sorted(runs) == [
        ["00001D", "00002D"],
        ["00003N"],
        ["a/01", "a/02", "a/03"],
        ["b/03", "b/04"],
        ["b/09"],
        ["x"],
    ]


def test_val_is_made_of_whole_runs_and_always_the_same():
    generator = np.random.default_rng(1)
    numbers = np.flatnonzero(generator.random(900) < 0.8)
    ids = [f"{number:04d}" for number in generator.permutation(numbers)]
    train, val = hold_out(ids, 0.12)
    assert sorted(train + val) == sorted(ids)
    assert [i for i in ids if i in val] == val
    assert 0.06 * len(ids) <= len(val) <= 0.12 * len(ids) + 1
    for run in consecutive_runs(ids):
        assert len({scene_id in val for scene_id in run}) == 1
    assert set(hold_out(sorted(ids), 0.12)[1]) == set(val)


def test_one_long_video_cannot_be_split_in_whole_runs():
    with pytest.raises(
        ValueError, match=r"no list names the scenes of val.*12 of 100 .*A group is a run .*there are 1, of up to 100"
    ):
        hold_out([f"{i:04d}" for i in range(100)], 0.12)


@pytest.mark.parametrize(
    "name",
    [
        lambda scan, frame: f"scan{scan}_{20 * frame:04d}",  # every twentieth frame
        lambda scan, frame: f"{1600000000 + 3600 * scan}{33 * frame:03d}",  # milliseconds
        lambda scan, frame: f"cam0_{1600000000 + 3600 * scan}.{66 * frame:06d}",
        lambda scan, frame: f"2024-05-{scan + 1:02d}_23-59-59.{330 * frame * frame % 999:03d}",
        lambda scan, frame: f"202405{10 + scan}T1203{2 * frame * frame:02d}",
    ],
    ids=["scans", "milliseconds", "ros", "date", "compact date"],
)
def test_frames_of_one_scan_are_never_in_two_splits(name):
    scans = [[name(scan, frame) for frame in range(4)] for scan in range(8)]
    train, val = hold_out([frame for scan in scans for frame in scan], 0.3)
    assert len(train) + len(val) == 32
    assert len(val) in (8, 12)
    assert all(set(scan) <= set(train) or set(scan) <= set(val) for scan in scans)


@pytest.mark.parametrize(
    "names",
    [
        [f"{20 * frame:04d}" for frame in range(50)],
        [f"{1600000000000 + 33 * frame + frame % 3}" for frame in range(50)],  # they jitter
        [f"{1600000000000 + 33 * frame}" for frame in range(50) if frame % 7],  # some are missing
        ["1", "2", "3"],
    ],
)
def test_frames_of_a_single_scan_are_not_drawn_apart(names):
    with pytest.raises(ValueError, match=r"no list names the scenes of test, .* there are 1, .*Write a list for test"):
        hold_out(names, 0.3, "test")


def test_the_note_says_what_was_taken_for_a_group():
    names = [f"scan{scan}_{20 * frame:04d}" for scan in "ABCD" for frame in range(3)]
    with pytest.warns(UserWarning, match=r"3 of 12 are drawn. A group is all names that are equal up to .*there are 4"):
        hold_out(names, 0.3, "test")


def test_scenes_in_only_one_of_the_folders_train_and_test_are_an_error():
    assert splits_by_folder(["a", "b"]) == {}
    assert splits_by_folder(["train/a", "test/b"]) == {"train": ["train/a"], "test": ["test/b"]}
    with pytest.raises(ValueError, match="scenes lie in train; expected the folders train and test"):
        splits_by_folder(["train/a", "train/b"])


def test_folders_beside_train_and_test_are_splits_or_an_error():
    ids = ["train/a", "test/b", "test_night/c"]
    assert set(splits_by_folder(ids)) == {"train", "test", "test_night"}
    with pytest.raises(ValueError, match="scenes lie in train, test, test_night, extra; expected"):
        splits_by_folder([*ids, "extra/d"])
