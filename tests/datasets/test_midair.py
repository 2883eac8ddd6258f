"""Mid-Air: depth that is half precision in a PNG, splits by flight, and segmentation that others overwrite."""

import itertools
import math
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from miniatures.midair import FRAMES, HEIGHT, NUMBERS, WIDTH, climate_of, depth, rgb, save_half, segmentation, write
from PIL import Image

from crodino_lib.config import DataConfig
from crodino_lib.data.decode import decode
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.sample import check_sample
from crodino_lib.datasets import midair
from crodino_lib.datasets.midair import CLIMATES, TABLES, MidAirOptions, open_midair

pytestmark = pytest.mark.filterwarnings("ignore::crodino_lib.data.layouts.DataWarning")
SCENE = "sunset/trajectory_1002/000004"
FOLDERS = ("color_left", "depth", "segmentation")
MAP_7 = np.array([0, 6, 2, 3, 3, 3, 4, 6, 1, 6, 5, 6, 6, 6], np.uint8)
PUBLISHED = list(itertools.chain(*CLIMATES.values()))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A copy that tests only read."""
    return write(tmp_path_factory.mktemp("read") / "MidAir")


@pytest.fixture
def root(tmp_path, written) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "MidAir"))


def open_copy(root, **options):
    return open_midair(DataConfig(dataset="midair", root=str(root), options=options))


def place(root, folder, number=1002, frame=4) -> Path:
    ending = "JPEG" if folder == "color_left" else "PNG"
    return root / climate_of(number) / folder / f"trajectory_{number:04d}" / f"{frame:06d}.{ending}"


def numbers(dataset, split) -> list[int]:
    return sorted({int(scene_id.split("/")[1].removeprefix("trajectory_")) for scene_id in dataset.ids(split)})


def flights(numbers) -> set:
    return {(number >= 4000, number % 1000) for number in numbers}


# -- what is read


def test_a_scene_is_read_as_it_was_written(written):
    dataset = open_copy(written)
    sample = dataset.read(SCENE)
    check_sample(sample, dataset.card)
    assert dataset.card.native_size == (WIDTH, HEIGHT)
    assert np.abs(sample["rgb"].astype(int) - rgb(1002, 4).transpose(2, 0, 1)).max() < 12  # JPEG
    np.testing.assert_array_equal(sample["depth"][0], depth(1002, 4).astype(np.float32))
    np.testing.assert_array_equal(sample["label"], segmentation(1002, 4))
    assert sample["depth_valid"].all()
    disparity = decode(place(written, "stereo_disparity")).view(np.float16).astype(np.float32)
    np.testing.assert_allclose(sample["depth"][0], 512 / disparity, rtol=2e-3)


def test_depth_that_is_not_finite_or_not_positive_is_invalid_and_far_depth_is_cut(root):
    metres = depth(1002, 4)
    metres[0, :8] = [np.nan, np.inf, -np.inf, 0, -0.0, -3, 65504, 6e-8]
    save_half(place(root, "depth"), metres)
    sample = open_copy(root).read(SCENE)
    assert sample["depth_valid"][0, 0, :8].tolist() == [False] * 6 + [True] * 2
    np.testing.assert_allclose(sample["depth"][0, 0, :8], [0] * 6 + [1250, 6e-8], rtol=0.01)
    assert sample["depth_valid"][0, 1:].all()
    near = open_copy(root, depth_max_m=80.0).read(SCENE)
    assert near["depth"].max() == 80
    assert near["depth_valid"].sum() == sample["depth_valid"].sum()


@pytest.mark.parametrize("scale", [1, 100])
def test_depth_that_was_converted_to_integers_is_refused(root, scale):
    """Whole metres are taken for numbers near zero; centimetres for half negative ones."""
    metres = np.linspace(2, 600, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    Image.fromarray((metres * scale).astype(np.uint16)).save(place(root, "depth"))
    with pytest.raises(ValueError, match=r"000004\.PNG holds at most .* so the file was converted"):
        open_copy(root).read(SCENE)


@pytest.mark.parametrize("far", [1250.0, 80.0])
def test_the_normalisation_is_that_of_depths_spread_evenly_over_the_logarithm(written, far):
    sensor = open_copy(written, depth_max_m=far).card.sensors["depth"]
    values = np.exp(np.linspace(0, math.log(far), 200001))
    assert sensor.mean[0] == pytest.approx(values.mean(), rel=1e-3)
    assert sensor.std[0] == pytest.approx(values.std(), rel=1e-3)
    assert (sensor.unit, sensor.focal) == ("m", 0.5)  # 90 degrees


def test_ids_become_classes_and_those_above_13_are_ignored_with_a_warning(root):
    ids = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256
    Image.fromarray(ids.astype(np.uint8)).save(place(root, "segmentation"))
    with pytest.warns(DataWarning, match=r"1 of 27 labels .*trajectory_1002/000004.PNG, hold ids above 13"):
        label = open_copy(root).read(SCENE)["label"]
    np.testing.assert_array_equal(label, np.where(ids > 13, 255, ids))
    seven = open_copy(root, classes=7)
    check_sample(seven.read(SCENE), seven.card)
    np.testing.assert_array_equal(seven.read(SCENE)["label"], np.where(ids > 13, 255, MAP_7[ids.clip(max=13)]))


def test_the_classes_have_their_published_names_and_colours(written):
    card = open_copy(written, classes=7).card
    assert card.classes == ("sky", "water", "trees", "land", "rocks", "road", "others")
    assert card.palette[:3] == ((127, 175, 230), (75, 163, 185), (50, 128, 0))
    assert card.palette[3:] == ((53, 94, 59), (70, 70, 70), (128, 64, 128), (128, 64, 64))
    card = open_copy(written).card
    assert len(card.classes) == len(set(card.classes)) == len(set(card.palette)) == 14
    assert (card.classes[0], card.classes[8], card.classes[13]) == ("sky", "water plane", "others")


# -- splits and frames


def test_every_third_flight_is_test_and_no_flight_is_on_two_sides(written):
    dataset = open_copy(written)
    assert numbers(dataset, "test") == [number for number in NUMBERS if number % 1000 % 3 == 0]
    assert numbers(dataset, "val") == [1, 1001]  # the same flight in two climates
    assert numbers(dataset, "train") == [2, 1002, 4001]
    cosemdepth = open_copy(written, split="cosemdepth")
    assert [numbers(cosemdepth, split) for split in ("val", "test")] == [[6, 1009, 4006], [0]]
    assert numbers(cosemdepth, "train") == [1, 2, 1001, 1002, 4001]


def test_the_published_trajectories_are_split_as_published():
    splits = midair._split(PUBLISHED, "m4depth", Path())
    assert [len(splits[name]) for name in ("train", "val", "test")] == [110, 18, 64]
    assert splits["test"] == [number for number in PUBLISHED if number % 1000 % 3 == 0]
    sides = [flights(some) for some in splits.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 30 + 24
    assert {number // 1000 for number in splits["val"]} == set(range(7))
    splits = midair._split(PUBLISHED, "cosemdepth", Path())
    assert [len(splits[name]) for name in ("train", "val", "test")] == [128, 8, 56]
    assert splits["val"] == [6, 1009, 2000, 3012, 4006, 4015, 5018, 6021]


def test_a_split_without_a_trajectory_is_refused(tmp_path):
    root = write(tmp_path / "MidAir", (0, 1, 2))
    with pytest.raises(ValueError, match=r"for val of split 'cosemdepth'.*0006"):
        open_copy(root, split="cosemdepth")
    with pytest.raises(ValueError, match="none of its 1 trajectories is for train and test"):
        open_copy(write(tmp_path / "one", (1,)))


@pytest.mark.parametrize(("stride", "expected"), [(4, [0, 4, 8]), (1, FRAMES), (8, [0, 8])])
def test_frames_are_thinned_by_their_number_once(root, stride, expected):
    ids = [
        f"{climate}/trajectory_{number}/{frame:06d}"
        for climate, number in (("sunny", "0001"), ("sunset", "1001"))
        for frame in expected
    ]
    assert open_copy(root, frame_stride=stride).ids("val") == ids
    for path in [path for path in root.rglob("*.*") if path.is_file() and int(path.stem) % stride]:
        path.unlink()
    assert open_copy(root, frame_stride=stride).ids("val") == ids


def test_the_order_in_which_folders_are_listed_does_not_matter(written, monkeypatch):
    expected = open_copy(written)
    walk, glob = os.walk, Path.glob
    monkeypatch.setattr(
        os, "walk", lambda top, **how: ((a, b, sorted(names, reverse=True)) for a, b, names in walk(top, **how))
    )
    monkeypatch.setattr(Path, "glob", lambda self, pattern: sorted(glob(self, pattern), reverse=True))
    found = open_copy(written)
    assert [found.ids(split) for split in found.card.splits] == [expected.ids(split) for split in found.card.splits]


def test_a_copy_may_have_other_endings_other_files_one_world_and_be_nested(tmp_path):
    root = write(tmp_path / "data/MidAir", (4001, 4002, 4003))
    for path in list(root.rglob("*.JPEG")) + list(root.rglob("*.PNG")):
        path.rename(path.with_suffix(path.suffix.lower()))
    place(root, "depth", 4001).with_name("Thumbs.db").write_bytes(b"x")
    dataset = open_copy(tmp_path)
    assert numbers(dataset, "test") == [4003]
    np.testing.assert_array_equal(dataset.read("fall/trajectory_4001/000004")["label"], segmentation(4001, 4))


def test_a_subset_is_told_with_its_counts_and_the_published_set_is_not(written):
    with pytest.warns(DataWarning, match=r"9 of the 192 published trajectories \(Kite_training/sunny 4 of 30, .*"):
        open_copy(written)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        midair._warn_of_differences(written, PUBLISHED)


def test_options_are_checked_and_change_the_fingerprint(written):
    for wrong in ({"classes": 13}, {"frame_stride": 0}, {"split": "random"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MidAirOptions.parse(wrong)
    chosen = ({}, {"classes": 7}, {"frame_stride": 1}, {"split": "cosemdepth"}, {"depth_max_m": 80.0})
    assert len({open_copy(written, **options).fingerprint() for options in chosen}) == 5


# -- segmentation that others convert in place


def convert(root, size=None, seven=True, channels=3) -> None:
    """Do to all labels what the mapping script does: ids of seven classes, three equal channels, another size."""
    for path in root.glob("*/*/segmentation/*/*.PNG"):
        ids = np.asarray(Image.open(path))
        image = Image.fromarray(np.stack([MAP_7[ids] if seven else ids] * channels, axis=-1).squeeze())
        (image.resize(size, Image.Resampling.NEAREST) if size else image).save(path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"size": (16, 16)}, r"\(16, 16, 3\), expected \(24, 40, 3\).*converted in place"),
        ({"size": (16, 16), "seven": False, "channels": 1}, r"\(16, 16, 1\), expected \(24, 40, 1\).*converted"),
        ({}, r"holds an id of 9..13, and they have 3 channels.*converted in place"),
    ],
)
@pytest.mark.parametrize("classes", [14, 7])
def test_segmentation_that_was_converted_in_place_is_refused(root, how, message, classes):
    convert(root, **how)
    with pytest.raises(ValueError, match=message):
        open_copy(root, classes=classes)


@pytest.mark.parametrize("size", [(16, 16), None])
def test_one_converted_label_among_originals_is_refused_when_it_is_read(root, size, monkeypatch):
    monkeypatch.setattr(midair, "LOOKED_AT", 2)
    image = Image.fromarray(np.stack([MAP_7[segmentation(1002, 4)]] * 3, axis=-1))
    (image.resize(size, Image.Resampling.NEAREST) if size else image).save(place(root, "segmentation"))
    dataset = open_copy(root)
    with pytest.raises(ValueError, match=r"trajectory_1002/000004.PNG.* 3\), expected.*converted in place"):
        dataset.read(SCENE)


def test_three_equal_channels_of_original_ids_are_read_and_one_without_ids_of_originals_is_warned_of(root):
    convert(root, seven=False)
    np.testing.assert_array_equal(open_copy(root).read(SCENE)["label"], segmentation(1002, 4))
    for path in root.glob("*/*/segmentation/*/*.PNG"):
        Image.fromarray(np.asarray(Image.open(path))[..., 0] % 9).save(path)
    with pytest.warns(DataWarning, match=r"none of .* labels.*as rendered, or the labels look converted"):
        dataset = open_copy(root)
    np.testing.assert_array_equal(dataset.read(SCENE)["label"], segmentation(1002, 4) % 9)


# -- copies that are not right


@pytest.mark.parametrize(
    ("folder", "pixels", "message"),
    [
        ("segmentation", rgb(1002, 4), r"000004.PNG holds .*expected class ids"),
        ("segmentation", np.zeros((HEIGHT, WIDTH), np.uint16), r"000004.PNG holds .*expected class ids"),
        ("segmentation", np.zeros((HEIGHT, WIDTH, 4), np.uint8), r"000004.PNG holds .*expected class ids"),
        ("depth", np.zeros((HEIGHT, WIDTH), np.uint8), r"000004.PNG holds uint8.*half-precision"),
        ("depth", depth(1002, 4).T.view(np.uint16), r"000004.PNG has 24x40 pixels"),
    ],
)
def test_a_file_of_another_kind_or_size_is_refused(root, folder, pixels, message):
    Image.fromarray(np.ascontiguousarray(pixels)).save(place(root, folder))
    with pytest.raises(ValueError, match=message):
        open_copy(root).read(SCENE)


def test_depth_and_segmentation_that_were_swapped_are_refused(root):
    for climate in sorted(root.glob("*/*")):
        (climate / "depth").rename(climate / "swap")
        (climate / "segmentation").rename(climate / "depth")
        (climate / "swap").rename(climate / "segmentation")
    with pytest.raises(ValueError, match=r"segmentation.*holds uint16"):
        open_copy(root)


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        (
            "sunset/depth/trajectory_1002",
            "elsewhere",
            FileNotFoundError,
            r"3 file\(s\).*depth/trajectory_1002/000000.PNG",
        ),
        ("sunset/depth", "sunset/Depth", FileNotFoundError, "sunset/depth does not exist.*Did you mean 'Depth'"),
        (
            "sunny",
            "cloudy",
            ValueError,
            r"trajectory_0000 is not a trajectory of Kite_training/cloudy.*trajectory_3000",
        ),
    ],
)
def test_a_folder_under_another_name_is_told(root, source, target, error, message):
    world = root / "Kite_training"
    (world / source).rename(world / target)
    with pytest.raises(error, match=message):
        open_copy(root)


def test_a_climate_in_the_wrong_case_is_warned_of(root):
    (root / "Kite_training/sunset").rename(root / "Kite_training/Sunset")
    with pytest.warns(DataWarning, match="Kite_training/Sunset, which are not read; climates are Kite_training/sunny"):
        open_copy(root)


def test_archives_that_were_not_unpacked_are_told_of(root):
    for folder in (place(root, what).parent for what in FOLDERS):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "frames.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"trajectory_1002 has no frame.*frame_stride = 4.*frames.zip"):
        open_copy(root)


def test_a_frame_in_two_files_is_refused_and_one_missing_between_others_is_told(root):
    for folder in FOLDERS:
        place(root, folder).rename(place(root, folder, frame=12))
    with pytest.warns(DataWarning, match=r"trajectory_1002 lacks 1 frame\(s\) between others, such as 000004"):
        open_copy(root)
    shutil.copy(place(root, "depth", frame=12), place(root, "depth", frame=12).with_suffix(".png"))
    with pytest.raises(ValueError, match="both fit the id 'trajectory_1002/000012'"):
        open_copy(root)


def test_a_folder_without_mid_air_is_refused(tmp_path):
    (tmp_path / "Kite_test").mkdir()
    with pytest.raises(FileNotFoundError, match=r"not Mid-Air: .* Kite_training .*PLE_training"):
        open_copy(tmp_path)
    assert len(TABLES["map"]["7"]) == 14
