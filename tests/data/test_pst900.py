"""PST900: thermal with holes, 16 bits that must survive, validation in whole recordings, and copies that are flat."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from miniatures.pst900 import BAGS, HEIGHT, PICTURES, TEST, TRAIN, WIDTH, write
from PIL import Image

from crodino_lib.config import DataConfig
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.sample import check_sample
from crodino_lib.data.scene_cache import load_scenes
from crodino_lib.datasets.pst900 import CLASSES, Pst900Options, open_pst900

pytestmark = pytest.mark.filterwarnings("ignore::crodino_lib.data.layouts.DataWarning")
SCENE = TEST[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A copy that tests only read."""
    return write(tmp_path_factory.mktemp("read") / "PST900_RGBT_Dataset")


@pytest.fixture
def root(tmp_path, written) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "PST900_RGBT_Dataset"))


def load_npz(root, **options):
    return open_pst900(DataConfig.model_construct(dataset="pst900", root=str(root), options=options))


def put(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def bag(scene_id: str) -> str:
    return scene_id.split("_rect")[0]


def test_a_scene_is_read_as_it_was_written(written):
    dataset = load_npz(written)
    sample = dataset.read(SCENE)
    check_sample(sample, dataset.card)
    assert dataset.card.native_size == (WIDTH, HEIGHT)
    assert set(dataset.card.sensors) == {"rgb", "thermal"}
    np.testing.assert_array_equal(sample["rgb"], PICTURES["rgb"].transpose(2, 0, 1))
    np.testing.assert_array_equal(sample["thermal"][0], PICTURES["thermal"].astype(np.float32))
    np.testing.assert_array_equal(sample["label"], PICTURES["labels"])


def test_thermal_zero_is_a_hole_in_8_and_in_16_bits(written):
    for thermal, folder in (("agc", "thermal"), ("raw", "thermal_raw")):
        sample = load_npz(written, thermal=thermal).read(SCENE)
        np.testing.assert_array_equal(sample["thermal_valid"][0], PICTURES[folder] != 0)
        assert not sample["thermal_valid"].all()
        assert not sample["thermal"][~sample["thermal_valid"]].any()


def test_16_bits_survive(written):
    dataset = load_npz(written, thermal="raw", depth=True)
    sample = dataset.read(SCENE)
    check_sample(sample, dataset.card)
    assert PICTURES["thermal_raw"].max() > 60000
    np.testing.assert_array_equal(sample["thermal"][0], PICTURES["thermal_raw"])
    np.testing.assert_array_equal(np.rint(sample["depth"][0] * 2560), PICTURES["depth"])
    np.testing.assert_allclose(sample["depth"][0, 3], 3 + np.arange(WIDTH) / 40, rtol=1e-6)
    np.testing.assert_array_equal(sample["depth_valid"][0], PICTURES["depth"] != 0)
    assert dataset.card.sensors["depth"].unit == "m (presumed)"


def test_counts_of_sixteen_bits_are_cached_exactly(root):
    put(root / f"test/thermal_raw/{SCENE}.png", np.full((HEIGHT, WIDTH), 65535, np.uint16))
    dataset, config = load_npz(root, thermal="raw"), DataConfig(dataset="pst900", root=str(root), size="32x32")
    scenes = load_scenes(dataset, "test", config, ("rgb", "thermal"))
    assert (scenes.images["thermal"][scenes.ids.index(SCENE)] == 65535).all()


def test_colours_are_red_green_blue_and_white(written):
    card = load_npz(written).card
    assert card.classes == ("background", "fire extinguisher", "backpack", "hand drill", "survivor") == tuple(CLASSES)
    assert card.palette == ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))


def test_a_label_with_a_colour_table_is_read_as_ids(root):
    image = Image.fromarray(PICTURES["labels"])
    image.putpalette(bytes(load_npz(root).card.palette[0]) + bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]))
    image.save(root / f"test/labels/{SCENE}.png")
    assert Image.open(root / f"test/labels/{SCENE}.png").mode == "P"
    np.testing.assert_array_equal(load_npz(root).read(SCENE)["label"], PICTURES["labels"])


def test_test_is_the_folder_test_and_val_is_whole_recordings_of_train(written):
    dataset = load_npz(written)
    train, val, test = (dataset.ids(split) for split in ("train", "val", "test"))
    assert test == sorted(TEST)
    assert sorted(train + val) == sorted(TRAIN)
    assert len(val) == 2
    assert not {bag(i) for i in train} & {bag(i) for i in val}
    assert {bag(i) for i in train + val} == set(BAGS)
    assert load_npz(written).ids("val") == val


def test_recordings_too_long_to_hold_out_are_refused(root):
    for folder in PICTURES:
        for path in (root / "train" / folder).iterdir():
            if not path.name.startswith("31_bag1a"):
                path.unlink()
    with pytest.raises(ValueError, match="no list for val"):
        load_npz(root)


def test_other_counts_than_published_are_only_warned_of(written):
    with pytest.warns(DataWarning, match=r"train 16 \(published 597\), test 4 \(published 288\)"):
        load_npz(written)


@pytest.mark.parametrize("layout", ["flat", "resized"])
@pytest.mark.parametrize("options", [{}, {"thermal": "raw", "depth": True}])
def test_flat_copies_hold_the_same_scenes(tmp_path, written, layout, options):
    flat = load_npz(write(tmp_path / "copy", layout), **options)
    published = load_npz(written, **options)
    for split in ("train", "val", "test"):
        assert flat.ids(split) == published.ids(split)
    one, other = flat.read(SCENE), published.read(SCENE)
    assert set(one) == set(other)
    for name in set(one) - {"id"}:
        np.testing.assert_array_equal(one[name], other[name])


def test_the_root_may_be_one_folder_above(written):
    assert load_npz(written.parent).ids("test") == load_npz(written).ids("test")


def test_lists_of_flat_copies_may_have_carriage_returns_a_mark_folders_and_any_order(tmp_path):
    root = write(tmp_path / "copy", "flat")
    expected = load_npz(root).ids("train")
    (root / "train.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(f"rgb/{name}.png" for name in TRAIN[::-1]).encode())
    assert load_npz(root).ids("train") == expected


def test_wrong_lists_of_flat_copies_are_named(tmp_path):
    root = write(tmp_path / "copy", "flat")
    (root / "train.txt").write_text("\n".join((*TRAIN, "31_bag1a_rect_rgb_frame0000000008")))
    with pytest.raises(FileNotFoundError, match=r"rgb/31_bag1a_rect_rgb_frame0000000008.png"):
        load_npz(root)
    (root / "train.txt").write_text("\n".join((*TRAIN, *TEST)))
    with pytest.raises(ValueError, match=r"are in both (train|val) and test"):
        load_npz(root)
    (root / "train.txt").rename(root / "trian.txt")
    with pytest.raises(FileNotFoundError, match=r"train.txt does not exist.*trian.txt"):
        load_npz(root)


def test_the_fingerprint_tells_options_and_files_apart(root):
    fingerprint = load_npz(root).fingerprint()
    assert load_npz(root).fingerprint() == fingerprint
    others = [load_npz(root, thermal="raw").fingerprint(), load_npz(root, depth=True).fingerprint()]
    put(root / f"test/thermal/{SCENE}.png", PICTURES["thermal"][::-1])
    assert len({fingerprint, load_npz(root).fingerprint(), *others}) == 4


def test_options_are_checked():
    for wrong in ({"thermal": "8bit"}, {"depth": 1}, {"split": "random"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Pst900Options.parse(wrong)


@pytest.mark.parametrize("folder", ["rgb", "thermal", "labels", "depth"])
def test_a_missing_file_is_named(root, folder):
    (root / f"train/{folder}/{TRAIN[4]}.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 file\(s\) are missing.*train/{folder}/{TRAIN[4]}.png"):
        load_npz(root, depth=True)


@pytest.mark.parametrize("folder", ["train/thermal", "test/rgb", "test", "train/labels"])
def test_a_missing_folder_is_named_with_what_is_there(root, folder):
    (root / folder).rename(root / f"{folder}_")
    with pytest.raises(FileNotFoundError, match=f"{folder}.* does not exist"):
        load_npz(root)


def test_a_folder_in_the_wrong_case_is_proposed(root):
    (root / "test/labels").rename(root / "test/Labels")
    with pytest.raises(FileNotFoundError, match="Did you mean 'Labels'"):
        load_npz(root)


def test_an_option_needs_its_folder(root):
    shutil.rmtree(root / "train/thermal_raw")
    load_npz(root)
    with pytest.raises(FileNotFoundError, match="train/thermal_raw does not exist"):
        load_npz(root, thermal="raw")


def test_an_empty_folder_is_refused(root):
    for folder in PICTURES:
        shutil.rmtree(root / "test" / folder)
        (root / "test" / folder).mkdir()
    with pytest.raises(ValueError, match=r"test holds no picture: expected .png files in rgb, thermal, labels"):
        load_npz(root)


@pytest.mark.parametrize("folder", ["rgb", "thermal", "labels"])
def test_a_truncated_or_empty_file_is_named(root, folder):
    path = root / f"test/{folder}/{SCENE}.png"
    dataset, whole = load_npz(root), path.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"test/{folder}/{SCENE}.png.*cannot be read"):
            dataset.read(SCENE)


BAD = {
    "thermal in 16 bits": ("thermal", PICTURES["thermal_raw"], {}, "kind 'u8'"),
    "thermal in false colours": ("thermal", PICTURES["rgb"], {}, "kind 'u8'"),
    "raw in 8 bits": ("thermal_raw", PICTURES["thermal"], {"thermal": "raw"}, "kind 'u16'"),
    "depth in 8 bits": ("depth", PICTURES["thermal"], {"depth": True}, "kind 'u16'"),
    "grey rgb": ("rgb", PICTURES["thermal"], {}, "kind 'rgb'"),
    "label in colours": ("labels", PICTURES["rgb"], {}, "not colours"),
    "label with other ids": ("labels", np.full((HEIGHT, WIDTH), 5, np.uint8), {}, r"ids \[5\]"),
    "thermal of another size": ("thermal", PICTURES["thermal"].T, {}, "has 20x36 pixels"),
    "label of another size": ("labels", PICTURES["labels"][::2, ::2], {}, "has 18x10 pixels"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_of_another_kind_or_size_is_named(root, kind):
    folder, pixels, options, says = BAD[kind]
    path = put(root / f"test/{folder}/{SCENE}.png", np.ascontiguousarray(pixels))
    with pytest.raises(ValueError, match=says) as error:
        load_npz(root, **options).read(SCENE)
    assert str(path) in str(error.value)


def test_thermal_and_labels_that_were_swapped_are_refused(root):
    for split in ("train", "test"):
        (root / split / "thermal").rename(root / split / "swap")
        (root / split / "labels").rename(root / split / "thermal")
        (root / split / "swap").rename(root / split / "labels")
    with pytest.raises(ValueError, match=r"labels.*which are no class"):
        load_npz(root)


def test_a_frame_in_train_and_in_test_is_refused(root):
    for folder in PICTURES:
        shutil.copy(root / f"test/{folder}/{SCENE}.png", root / f"train/{folder}/{SCENE}.png")
    with pytest.raises(ValueError, match=f"{SCENE}.*both fit the id|are in both train"):
        load_npz(root)


def test_a_folder_without_pst900_is_refused(tmp_path):
    (tmp_path / "KAIST").mkdir()
    with pytest.raises(FileNotFoundError, match=r"PST900 as 'published'.*\n.*'flat'.*\n.*'resized'"):
        load_npz(tmp_path)


def test_there_is_no_ignored_id(root):
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[0, 0] = 255
    put(root / f"test/labels/{SCENE}.png", label)
    with pytest.raises(ValueError, match=rf"{SCENE}\.png holds the ids \[255\], which are no class"):
        load_npz(root).read(SCENE)
