"""Mid-Air: depth that is half precision in a PNG, splits by flight, and segmentation that others overwrite."""

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
from crodino_lib.data.image_files import decode
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.sample import check_sample
from crodino_lib.datasets import midair
from crodino_lib.datasets.midair import CLASSES_7, CLIMATES, MAP_7, MidAirOptions, open_midair

pytestmark = pytest.mark.filterwarnings("ignore::crodino_lib.data.layouts.DataWarning")
SCENE = "sunset/trajectory_1002/000004"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A copy that tests only read."""
    return write(tmp_path_factory.mktemp("read") / "MidAir")


@pytest.fixture
def root(tmp_path, written) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "MidAir"))


def load_npz(root, **options):
    return open_midair(DataConfig.model_construct(dataset="midair", root=str(root), options=options))


def place(root, what, number=1002, frame=4) -> Path:
    ending = "JPEG" if what == "color_left" else "PNG"
    return root / climate_of(number) / what / f"trajectory_{number:04d}" / f"{frame:06d}.{ending}"


def numbers(dataset, split) -> list[int]:
    return sorted({int(scene_id.split("/")[1].removeprefix("trajectory_")) for scene_id in dataset.ids(split)})


def flights(dataset, split) -> set:
    return {(number >= 4000, number % 1000) for number in numbers(dataset, split)}


def published() -> list[int]:
    return [number for known in CLIMATES.values() for number in known]


def test_a_scene_is_read_as_it_was_written(written):
    dataset = load_npz(written)
    sample = dataset.read(SCENE)
    check_sample(sample, dataset.card)
    assert dataset.card.native_size == (WIDTH, HEIGHT)
    assert np.abs(sample["rgb"].astype(int) - rgb(1002, 4).transpose(2, 0, 1)).max() < 12  # JPEG
    np.testing.assert_array_equal(sample["depth"][0], depth(1002, 4).astype(np.float32))
    np.testing.assert_array_equal(sample["label"], segmentation(1002, 4))
    assert sample["depth_valid"].all()


def test_depth_is_512_by_the_disparity(written):
    metres = load_npz(written).read(SCENE)["depth"][0]
    disparity = decode(place(written, "stereo_disparity")).view(np.float16).astype(np.float32)
    np.testing.assert_allclose(metres, 512 / disparity, rtol=2e-3)


def test_depth_that_is_not_finite_or_not_positive_is_invalid_and_far_depth_is_cut(root):
    metres = depth(1002, 4)
    metres[0, :8] = [np.nan, np.inf, -np.inf, 0, -0.0, -3, 65504, 6e-8]
    save_half(place(root, "depth"), metres)
    sample = load_npz(root).read(SCENE)
    assert sample["depth_valid"][0, 0, :8].tolist() == [False] * 6 + [True] * 2
    np.testing.assert_allclose(sample["depth"][0, 0, :8], [0] * 6 + [1250, 6e-8], rtol=0.01)
    assert sample["depth_valid"][0, 1:].all()
    near = load_npz(root, depth_max_m=80).read(SCENE)
    assert near["depth"].max() == 80
    assert near["depth_valid"].sum() == sample["depth_valid"].sum()


@pytest.mark.parametrize("far", [1250.0, 80.0])
def test_the_normalisation_is_that_of_depths_spread_evenly_over_the_logarithm(written, far):
    sensor = load_npz(written, depth_max_m=far).card.sensors["depth"]
    values = np.exp(np.linspace(0, math.log(far), 200001))
    assert sensor.mean[0] == pytest.approx(values.mean(), rel=1e-3)
    assert sensor.std[0] == pytest.approx(values.std(), rel=1e-3)
    assert (sensor.unit, sensor.focal) == ("m", 0.5)  # 90 degrees


def test_ids_become_classes_and_those_above_13_are_ignored(root):
    ids = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256
    Image.fromarray(ids.astype(np.uint8)).save(place(root, "segmentation"))
    label = load_npz(root).read(SCENE)["label"]
    np.testing.assert_array_equal(label, np.where(ids > 13, 255, ids))
    seven = load_npz(root, classes=7)
    label = seven.read(SCENE)["label"]
    reduced = {0: 0, 1: 6, 2: 2, 3: 3, 4: 3, 5: 3, 6: 4, 7: 6, 8: 1, 9: 6, 10: 5, 11: 6, 12: 6, 13: 6}
    for raw in range(256):
        assert set(label[ids == raw]) == {reduced.get(raw, 255)}
    check_sample(seven.read(SCENE), seven.card)


def test_a_warning_names_ids_that_are_no_class(root):
    Image.fromarray(np.full((HEIGHT, WIDTH), 77, np.uint8)).save(place(root, "segmentation"))
    with pytest.warns(DataWarning, match=r"1 of 27 labels .*trajectory_1002/000004.PNG, hold ids above 13"):
        load_npz(root)


def test_the_seven_classes_have_their_published_colours(written):
    card = load_npz(written, classes=7).card
    assert card.classes == ("sky", "water", "trees", "land", "rocks", "road", "others") == tuple(CLASSES_7)
    assert card.palette[:3] == ((127, 175, 230), (75, 163, 185), (50, 128, 0))
    assert card.palette[3:] == ((53, 94, 59), (70, 70, 70), (128, 64, 128), (128, 64, 64))
    assert sorted(set(MAP_7)) == list(range(7))
    card = load_npz(written).card
    assert len(card.classes) == len(set(card.classes)) == len(set(card.palette)) == 14
    assert (card.classes[0], card.classes[8], card.classes[13]) == ("sky", "water plane", "others")


def test_every_third_flight_is_test_and_no_flight_is_on_two_sides(written):
    dataset = load_npz(written)
    assert numbers(dataset, "test") == [number for number in NUMBERS if number % 1000 % 3 == 0]
    assert numbers(dataset, "val") == [1, 1001]  # the same flight in two climates
    assert numbers(dataset, "train") == [2, 1002, 4001]
    train, val, test = (flights(dataset, split) for split in ("train", "val", "test"))
    assert not train & val | train & test | val & test


def test_the_published_trajectories_are_split_as_published():
    splits = midair._split(published(), "m4depth", Path())
    assert [len(splits[name]) for name in ("train", "val", "test")] == [110, 18, 64]
    assert splits["test"] == [number for number in published() if number % 1000 % 3 == 0]
    sides = [{(number >= 4000, number % 1000) for number in some} for some in splits.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 30 + 24
    assert {number // 1000 for number in splits["val"]} == set(range(7))
    splits = midair._split(published(), "cosemdepth", Path())
    assert [len(splits[name]) for name in ("train", "val", "test")] == [128, 8, 56]
    assert splits["val"] == [6, 1009, 2000, 3012, 4006, 4015, 5018, 6021]


def test_cosemdepth_takes_val_from_test(written):
    dataset = load_npz(written, split="cosemdepth")
    assert numbers(dataset, "val") == [6, 1009, 4006]
    assert numbers(dataset, "test") == [0]
    assert numbers(dataset, "train") == [1, 2, 1001, 1002, 4001]
    assert "cosemdepth" in dataset.card.notes


def test_a_split_without_a_trajectory_is_refused(tmp_path):
    root = write(tmp_path / "MidAir", (0, 1, 2))
    with pytest.raises(ValueError, match=r"for val of split 'cosemdepth'.*0006"):
        load_npz(root, split="cosemdepth")
    with pytest.raises(ValueError, match="none of its 1 trajectories is for train and test"):
        load_npz(write(tmp_path / "one", (1,)))


@pytest.mark.parametrize(("stride", "expected"), [(4, [0, 4, 8]), (1, FRAMES), (8, [0, 8])])
def test_frames_are_thinned_by_their_number(written, stride, expected):
    ids = load_npz(written, frame_stride=stride).ids("val")
    assert ids == [
        f"{climate}/trajectory_{number}/{frame:06d}"
        for climate, number in (("sunny", "0001"), ("sunset", "1001"))
        for frame in expected
    ]


def test_a_copy_that_is_thinned_already_is_not_thinned_again(root):
    for path in [path for path in root.rglob("*.*") if path.is_file() and int(path.stem) % 4]:
        path.unlink()
    assert len(load_npz(root).ids("val")) == 6


def test_the_order_in_which_folders_are_listed_does_not_matter(written, monkeypatch):
    expected = load_npz(written)
    walk, glob = os.walk, Path.glob
    monkeypatch.setattr(
        os, "walk", lambda top, **how: ((a, b, sorted(names, reverse=True)) for a, b, names in walk(top, **how))
    )
    monkeypatch.setattr(Path, "glob", lambda self, pattern: sorted(glob(self, pattern), reverse=True))
    found = load_npz(written)
    for split in ("train", "val", "test"):
        assert found.ids(split) == expected.ids(split)


def test_endings_may_be_in_lower_case_and_other_files_are_not_ours(root):
    for path in list(root.rglob("*.JPEG")) + list(root.rglob("*.PNG")):
        path.rename(path.with_suffix(path.suffix.lower()))
    place(root, "depth").with_name("Thumbs.db").write_bytes(b"x")
    np.testing.assert_array_equal(load_npz(root).read(SCENE)["label"], segmentation(1002, 4))


def test_the_root_may_be_nested_and_hold_one_world(tmp_path):
    write(tmp_path / "data/MidAir", (4001, 4002, 4003))
    assert numbers(load_npz(tmp_path), "test") == [4003]


def test_a_subset_is_told_of_with_its_counts(written):
    with pytest.warns(DataWarning, match=r"9 of the 192 published trajectories \(Kite_training/sunny 4 of 30, .*"):
        load_npz(written)


@pytest.mark.filterwarnings("error::crodino_lib.data.layouts.DataWarning")
def test_the_published_trajectories_are_not_warned_of(written):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        midair._tell_of_differences(written, published())
        assert not told
        midair._tell_of_differences(written, published()[1:])
    assert len(told) == 1  # which shows that one would have been seen


def test_the_fingerprint_tells_options_files_and_the_reader_apart(root, monkeypatch):
    fingerprint = load_npz(root).fingerprint()
    assert load_npz(root).fingerprint() == fingerprint
    others = [load_npz(root, **{name: value}).fingerprint() for name, value in (
        ("classes", 7), ("frame_stride", 1), ("split", "cosemdepth"), ("depth_max_m", 80.0)
    )]  # fmt: skip
    save_half(place(root, "depth"), depth(1002, 4) + 1)
    others.append(load_npz(root).fingerprint())
    monkeypatch.setattr(midair, "__file__", __file__)  # other code
    assert len({fingerprint, load_npz(root).fingerprint(), *others}) == 7


def test_options_are_checked():
    for wrong in ({"classes": 13}, {"frame_stride": 0}, {"split": "random"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MidAirOptions.parse(wrong)


def converted(ids: np.ndarray, size: tuple[int, int] | None = None) -> Image.Image:
    """What the mapping script leaves: ids of seven classes in three equal channels, of another size."""
    image = Image.fromarray(np.repeat(np.array(MAP_7, np.uint8)[ids][..., None], 3, axis=2))
    return image.resize(size, Image.Resampling.NEAREST) if size else image


def labels(root) -> list[Path]:
    return sorted(root.glob("*/*/segmentation/*/*.PNG"))


def test_segmentation_that_was_converted_in_place_is_refused(root):
    for path in labels(root):
        converted(np.asarray(Image.open(path)), (16, 16)).save(path)
    with pytest.raises(
        ValueError, match=r"PNG has 16x16 pixels and 3 channel.*pictures have 40x24.*converted in place"
    ):
        load_npz(root)


def test_segmentation_of_another_size_is_refused_whatever_its_channels(root):
    for path in labels(root):
        Image.open(path).resize((16, 16), Image.Resampling.NEAREST).save(path)
    with pytest.raises(ValueError, match=r"16x16 pixels and 1 channel.*converted in place"):
        load_npz(root)


@pytest.mark.parametrize("size", [(16, 16), None])
def test_one_converted_label_among_originals_is_refused_when_it_is_read(root, size, monkeypatch):
    monkeypatch.setattr(midair, "LOOKED_AT", 2)
    converted(segmentation(1002, 4), size).save(place(root, "segmentation"))
    dataset = load_npz(root)
    with pytest.raises(ValueError, match=r"trajectory_1002/000004.PNG.*3 channel.*converted in place"):
        dataset.read(SCENE)


@pytest.mark.parametrize("classes", [14, 7])
def test_three_channels_that_only_hold_what_converters_write_are_refused(root, classes):
    for path in labels(root):
        converted(np.asarray(Image.open(path))).save(path)
    with pytest.raises(ValueError, match=r"holds an id of 9..13, and they have 3 channels.*converted in place"):
        load_npz(root, classes=classes)


def test_three_equal_channels_of_original_ids_are_read_from_the_first(root):
    for path in labels(root):
        Image.fromarray(np.repeat(np.asarray(Image.open(path))[..., None], 3, axis=2)).save(path)
    np.testing.assert_array_equal(load_npz(root).read(SCENE)["label"], segmentation(1002, 4))


def test_one_channel_without_ids_that_only_originals_hold_is_warned_of(root):
    for path in labels(root):
        Image.fromarray(np.asarray(Image.open(path)) % 9).save(path)
    with pytest.warns(DataWarning, match="none of .* labels.*as rendered, or this looks converted"):
        dataset = load_npz(root)
    np.testing.assert_array_equal(dataset.read(SCENE)["label"], segmentation(1002, 4) % 9)


BAD_LABELS = {
    "colours": Image.fromarray(rgb(1002, 4)),
    "16 bits": Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)),
    "with alpha": Image.fromarray(np.zeros((HEIGHT, WIDTH, 4), np.uint8)),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_a_label_that_holds_no_ids_is_refused(root, kind):
    BAD_LABELS[kind].save(place(root, "segmentation"))
    with pytest.raises(ValueError, match=r"trajectory_1002/000004.PNG holds .*expected class ids"):
        load_npz(root).read(SCENE)


@pytest.mark.parametrize("what", ["color_left", "depth", "segmentation"])
def test_a_truncated_or_empty_file_is_named(root, what):
    path = place(root, what)
    dataset, whole = load_npz(root), path.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{what}/trajectory_1002/000004.*cannot be read"):
            dataset.read(SCENE)


def test_depth_in_8_bits_is_refused(root):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(place(root, "depth"))
    with pytest.raises(ValueError, match=r"depth/trajectory_1002/000004.PNG holds uint8.*half-precision"):
        load_npz(root).read(SCENE)


def test_depth_of_another_size_is_refused(root):
    save_half(place(root, "depth"), depth(1002, 4).T)
    with pytest.raises(ValueError, match=r"depth/trajectory_1002/000004.PNG has 24x40 pixels"):
        load_npz(root).read(SCENE)


def test_depth_and_segmentation_that_were_swapped_are_refused(root):
    for climate in sorted(root.glob("*/*")):
        (climate / "depth").rename(climate / "swap")
        (climate / "segmentation").rename(climate / "depth")
        (climate / "swap").rename(climate / "segmentation")
    with pytest.raises(ValueError, match=r"segmentation.*holds uint16"):
        load_npz(root)


@pytest.mark.parametrize("what", ["color_left", "depth", "segmentation"])
def test_a_missing_file_is_named(root, what):
    place(root, what).unlink()
    name = f"Kite_training/sunset/{what}/trajectory_1002/000004.{'JPEG' if what == 'color_left' else 'PNG'}"
    with pytest.raises(FileNotFoundError, match=rf"1 file\(s\) are missing.*{name}.*frames.zip"):
        load_npz(root)


@pytest.mark.parametrize("what", ["color_left", "depth", "segmentation"])
def test_a_missing_folder_is_named(root, what):
    place(root, what).parent.rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"{what}/trajectory_1002 does not exist"):
        load_npz(root)


def test_a_folder_in_the_wrong_case_is_named(root):
    (root / "Kite_training/sunset/depth").rename(root / "Kite_training/sunset/Depth")
    with pytest.raises(FileNotFoundError, match="sunset/depth/trajectory_1001 does not exist"):
        load_npz(root)


def test_a_climate_in_the_wrong_case_is_warned_of(root):
    (root / "Kite_training/sunset").rename(root / "Kite_training/Sunset")
    with pytest.warns(DataWarning, match="Kite_training/Sunset, which are not read; climates are Kite_training/sunny"):
        load_npz(root)


def test_a_trajectory_in_the_wrong_climate_is_refused(root):
    (root / "Kite_training/sunny").rename(root / "Kite_training/cloudy")
    with pytest.raises(ValueError, match=r"trajectory_0000 is no trajectory of Kite_training/cloudy.*trajectory_3000"):
        load_npz(root)


def test_archives_that_were_not_unpacked_are_told_of(root):
    for what in ("color_left", "depth", "segmentation"):
        folder = place(root, what).parent
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "frames.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"trajectory_1002 has no frame.*frame_stride = 4.*frames.zip"):
        load_npz(root)


def test_a_frame_in_two_files_is_refused(root):
    shutil.copy(place(root, "depth"), place(root, "depth").with_suffix(".png"))
    with pytest.raises(ValueError, match="both fit the id '000004'"):
        load_npz(root)


def test_a_folder_without_mid_air_is_refused(tmp_path):
    (tmp_path / "Kite_test").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Mid-Air as 'Kite_training'.*\n.*PLE_training"):
        load_npz(tmp_path)


def test_a_scene_that_does_not_exist_is_refused(written):
    with pytest.raises(ValueError, match="midair has no scene 'sunset/trajectory_1002/000005'"):
        load_npz(written).read("sunset/trajectory_1002/000005")


@pytest.mark.parametrize("scale", [1, 100])
def test_depth_that_was_converted_to_integers_is_refused(root, scale):
    """Whole metres are taken for numbers near zero; centimetres for half negative ones."""
    metres = np.linspace(2, 600, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    Image.fromarray((metres * scale).astype(np.uint16)).save(place(root, "depth"))
    with pytest.raises(
        ValueError, match=r"depth/trajectory_1002/000004\.PNG holds at most .* so the file was converted"
    ):
        load_npz(root).read(SCENE)


def test_a_frame_that_is_missing_between_others_is_told(root):
    for frame in (8, 12):
        for what in ("color_left", "depth", "segmentation"):
            shutil.copy(place(root, what), place(root, what, frame=frame))
    for what in ("color_left", "depth", "segmentation"):
        place(root, what).unlink()
    with pytest.warns(
        DataWarning, match=r"color_left/trajectory_1002 lacks 1 frame\(s\) between others, such as 000004"
    ):
        load_npz(root)
