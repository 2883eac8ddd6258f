import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pydantic import ValidationError

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import open_folder
from crodino_lib.data.folder_spec import PALETTE, FolderSpec
from crodino_lib.data.image_files import (
    ImageFiles,
    LabelFiles,
    SensorFiles,
    digest,
    read_label,
    read_picture,
    read_sensor,
)
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.registry import open_dataset
from crodino_lib.data.sample import check_sample
from crodino_lib.data.splits import hold_out

RGB = ImageFiles(dir="RGB")


def load_npz(root: Path):
    return open_folder(DataConfig(dataset="folder", root=str(root)))


def edit(root: Path, old: str, new: str) -> None:
    path = root / "dataset.toml"
    text = path.read_text()
    path.write_text(text.replace(old, new))
    assert path.read_text() != text


# -- what is read


def test_a_scene_is_read_as_stored_and_keeps_the_contract(mini):
    dataset = load_npz(mini)
    sample = dataset.read("0011")
    check_sample(sample, dataset.card)
    depth = np.asarray(Image.open(mini / "Depth/0011.png")).astype(np.float32)
    np.testing.assert_array_equal(sample["rgb"], np.asarray(Image.open(mini / "RGB/0011.jpg")).transpose(2, 0, 1))
    np.testing.assert_allclose(sample["depth"][0], depth / 1000, rtol=1e-6)
    np.testing.assert_array_equal(sample["depth_valid"][0], depth > 0)
    raw = np.asarray(Image.open(mini / "Label/0011.png"))
    np.testing.assert_array_equal(sample["label"], np.where(raw == 0, 255, raw.astype(int) - 1))


def test_the_card_says_what_the_settings_say(mini):
    card = load_npz(mini).card
    assert card.splits == ("train", "val", "test")
    assert card.native_size == (48, 40)
    assert card.sensors["depth"].mean == (2.5,)
    assert card.palette == tuple(tuple(bytes.fromhex(colour[1:])) for colour in PALETTE[:3])


def test_colours_of_the_default_palette_are_distinct():
    assert len(set(PALETTE)) == len(PALETTE) == 40


def test_the_offset_of_cmx_equals_an_explicit_map():
    offset = LabelFiles(dir="L", offset=-1).classes(3)
    spelt = LabelFiles(dir="L", map={"0": 255, "1": 0, "2": 1, "3": 2}).classes(3)
    np.testing.assert_array_equal(offset[[0, 1, 2, 3, 255]], [255, 0, 1, 2, 255])
    np.testing.assert_array_equal(offset[[0, 1, 2, 3, 255]], spelt[[0, 1, 2, 3, 255]])


def test_an_id_beyond_the_classes_never_wraps_to_ignore():
    assert LabelFiles(dir="L", offset=-1).classes(3)[[4, 254, 256]].tolist() == [-1, -1, -1]


def test_a_colour_table_label_gives_its_ids(tmp_path):
    picture = Image.fromarray(np.array([[0, 2], [1, 255]], np.uint8), mode="P")
    picture.putpalette([9, 9, 9] * 256)
    picture.save(tmp_path / "l.png")
    files = LabelFiles(dir=".")
    label = read_label(tmp_path / "l.png", files, files.classes(3))
    assert label.tolist() == [[0, 2], [1, 255]]


def test_sixteen_bits_stay_sixteen_bits(tmp_path, save):
    values = np.array([[0, 255, 256, 65535]], np.uint16)
    assert read_picture(save(tmp_path / "d.png", values), "u16").pixels[0].tolist() == values.tolist()


def test_a_thermal_sensor_may_have_an_offset_and_no_invalid_value(tmp_path, save):
    files = SensorFiles(dir=".", kind="u16", unit="degrees C", scale=0.01, offset=-273.15, invalid=())
    image, valid = read_sensor(save(tmp_path / "t.png", np.array([[0, 29315]], np.uint16)), files)
    np.testing.assert_allclose(image, [[[-273.15, 20.0]]], atol=1e-3)
    assert valid.all()


def test_float_pictures_are_valid_where_finite(tmp_path):
    np.save(tmp_path / "d.npy", np.array([[1.5, np.nan, np.inf, 0]], np.float16))
    image, valid = read_sensor(
        tmp_path / "d.npy", SensorFiles(dir=".", kind="float", unit="m", invalid=(0,), mean=(1,), std=(1,))
    )
    assert image.tolist() == [[[1.5, 0, 0, 0]]]
    assert valid.tolist() == [[[True, False, False, False]]]


def test_grey_pictures_saved_as_opaque_rgba_are_one_channel(tmp_path, save):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    rgba = np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
    assert read_picture(save(tmp_path / "d.png", rgba), "u8").pixels.tolist() == [grey.tolist()]


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("u16", np.zeros((2, 3), np.uint8)),
        ("u8", np.zeros((2, 3), np.uint16)),
        ("rgb", np.zeros((2, 3), np.uint8)),
        ("u8", np.array([[[1, 2, 3]]], np.uint8)),
        ("rgb", np.zeros((2, 3, 4), np.uint8)),  # the fourth channel is thermal, not opacity
        ("float", np.zeros((2, 3), np.uint16)),
    ],
)
def test_a_file_of_another_kind_is_refused_and_named(tmp_path, save, kind, array):
    path = save(tmp_path / "x.png", array)
    with pytest.raises(ValueError, match=rf"x\.png holds {array.dtype}.*expected kind '{kind}'"):
        read_picture(path, kind)


# -- where it lies


def test_suffixes_are_found_whatever_their_case_and_sub_folders_are_kept(mini):
    for folder in ("RGB", "Depth", "Label"):
        (mini / folder / "set00").mkdir()
        for path in mini.glob(f"{folder}/004*.*"):
            path.rename(mini / folder / "set00" / (path.stem + path.suffix.upper()))
    (mini / "test.txt").write_text("0005\nRGB/set00/0043.JPG\n")
    (mini / "train.txt").write_text((mini / "train.txt").read_text().replace("\n004", "\nset00/004"))
    dataset = load_npz(mini)
    assert dataset.ids("test") == ["0005", "set00/0043"]
    assert dataset.read("set00/0043")["label"].shape == (40, 48)


def test_two_files_that_fit_one_id_are_refused_until_ext_chooses(mini):
    shutil.copy(mini / "Label/0001.png", mini / "Label/0001.bmp")
    with pytest.raises(ValueError, match=r"0001\.(png|bmp) and .*0001\.(png|bmp) both fit the id '0001'.*ext"):
        load_npz(mini)
    edit(mini, '"Label"', '"Label", ext = ".png"')
    load_npz(mini)


def test_the_root_must_be_given():
    with pytest.raises(ValueError, match="needs root"):
        open_dataset(DataConfig(dataset="folder"))
    with pytest.raises(ValueError, match="'rooms' is built in and takes no root, given 'here'"):
        open_dataset(DataConfig(root="here"))


def test_a_missing_root_proposes_its_neighbour(mini):
    with pytest.raises(FileNotFoundError, match="Did you mean 'mini'"):
        load_npz(mini.parent / "mimi")


def test_a_sensor_folder_in_another_case_is_proposed(mini):
    edit(mini, 'dir = "Depth"', 'dir = "DEPTH"')
    with pytest.raises(FileNotFoundError, match="Did you mean 'Depth'"):
        load_npz(mini)


def test_without_settings_an_example_is_shown(mini):
    (mini / "dataset.toml").unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)dataset\.toml is missing.*name = \"mine\""):
        load_npz(mini)


def test_all_missing_files_are_counted_and_the_first_ten_named(mini):
    for path in sorted((mini / "Depth").iterdir())[1:]:
        path.unlink()
    (mini / "Label/0001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"17 file\(s\) of the 17 scenes.* and 7 more") as error:
        load_npz(mini)
    assert str(error.value).count("Depth/00") == 10


def test_files_of_another_ending_are_named_with_those_that_are_read(mini):
    for path in (mini / "RGB").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(FileNotFoundError, match=r"RGB has files of the endings \.heic; expected \.png, \.jpg, "):
        load_npz(mini)


def test_what_a_file_holds_decides_how_it_is_read_and_not_its_name(mini):
    expected = load_npz(mini).read("0001")
    for path in (mini / "Depth").iterdir():  # a TIFF that is called PNG, and a PNG that is called TIFF
        pixels = np.asarray(Image.open(path))
        tifffile.imwrite(path, pixels) if path.stem != "0001" else path.rename(path.with_suffix(".tif"))
    assert (load_npz(mini).read("0001")["depth"] == expected["depth"]).all()
    assert load_npz(mini).read("0002")["depth"].any()


def test_a_folder_may_lie_in_your_home(mini, monkeypatch):
    monkeypatch.setenv("HOME", str(mini.parent))
    edit(mini, 'dir = "RGB"', 'dir = "~/mini/RGB"')
    assert load_npz(mini).read("0001")["rgb"].any()


def test_a_missing_list_proposes_another(mini):
    edit(mini, 'test = "test.txt"', 'test = "tests.txt"')
    with pytest.raises(FileNotFoundError, match=r"tests\.txt does not exist.*Did you mean 'test\.txt'"):
        load_npz(mini)


# -- settings


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("scale = 0.001", "scal = 0.001", r"\[sensors.depth\].*'scal'.*Did you mean 'scale'"),
        ('kind = "u16"', 'kind = "u17"', "kind = 'u17' is not allowed.*Did you mean 'u16'"),
        ("invalid = [0]\n", "", "invalid"),
        ("mean = [2.5]", "mean = [2.5, 1.0]", "mean and std of depth must be 1 number"),
        ("val_fraction = 0.25", "val_fraction = 2.0", "val_fraction = 2.0"),
        (', test = "test.txt"', "", "the list file for test is not given"),
        ("[sensors.depth]", "[sensors.label]", "'label' cannot be the name of a sensor"),
        ("offset = -1", "offset = -1, map = { 9 = 7 }", r"map leads to \[7\].*0\.\.2"),
        ('classes = ["wall", "floor", "ball"]', 'classes = ["wall"', "dataset.toml is not TOML"),
    ],
)
def test_wrong_settings_are_refused_by_name(mini, old, new, says):
    edit(mini, old, new)
    with pytest.raises(ValueError, match=says):
        load_npz(mini)


def test_a_palette_must_fit_the_classes():
    with pytest.raises(ValidationError, match="each of the 2 classes"):
        FolderSpec(
            name="x",
            classes=("a", "b"),
            palette=("#000000",),
            rgb=RGB,
            label=LabelFiles(dir="L"),
            splits={"train": "a", "test": "b"},
        )


def test_a_sensor_without_normalisation_is_told_the_measured_one(mini):
    edit(mini, "mean = [2.5]\nstd = [1.0]\n", "")
    valid = []
    dataset_ids = hold_out((mini / "train.txt").read_text().split(), 0.25)[0]
    for scene_id in dataset_ids:
        raw = np.asarray(Image.open(mini / f"Depth/{scene_id}.png"))
        valid.append(raw[raw > 0] / 1000)
    mean = np.concatenate(valid).mean()
    with pytest.raises(ValueError, match=rf"needs mean and std in m.*mean = \[{round(float(mean), 4)}"):
        load_npz(mini)


# -- broken files


@pytest.mark.parametrize("name", ["RGB/0003.jpg", "Depth/0003.png", "Label/0003.png"])
def test_a_truncated_picture_is_named(mini, name):
    path, dataset = mini / name, load_npz(mini)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name}.*cannot be read"):
        dataset.read("0003")


def test_a_file_that_went_away_is_named(mini):
    dataset = load_npz(mini)
    (mini / "Depth/0003.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"Depth/0003\.png"):
        dataset.read("0003")


def test_pictures_of_unequal_size_are_named_with_their_sizes(mini, save):
    save(mini / "Depth/0003.png", np.ones((20, 24), np.uint16))
    with pytest.raises(ValueError, match=r"Depth/0003\.png has 24x20 .*RGB/0003\.jpg has 48x40"):
        load_npz(mini).read("0003")


@pytest.mark.parametrize("channels", [3, 4])
def test_a_label_in_colours_is_refused(mini, save, channels):
    save(mini / "Label/0003.png", np.zeros((40, 48, channels), np.uint8))
    with pytest.raises(ValueError, match=rf"Label/0003\.png holds uint8 of shape \(40, 48, {channels}\), expected one"):
        load_npz(mini).read("0003")


def test_label_ids_outside_the_classes_are_named(mini, save):
    label = np.ones((40, 48), np.uint8)
    label[0, :2] = 4, 77
    save(mini / "Label/0003.png", label)
    with pytest.raises(ValueError, match=r"Label/0003\.png holds the ids \[4, 77\].*expected 1\.\.3"):
        load_npz(mini).read("0003")


def test_an_unknown_scene_or_split_proposes_the_nearest(mini):
    dataset = load_npz(mini)
    with pytest.raises(ValueError, match=r"no scene '00031'.*Did you mean '0031'"):
        dataset.read("00031")
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        dataset.ids("trian")


# -- split lists


def test_lists_with_windows_lines_open_as_others(mini):
    before = load_npz(mini).ids("train")
    text = (mini / "train.txt").read_text()
    (mini / "train.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_npz(mini).ids("train") == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"# nothing\n", "names no scene"),
        (b"0005\n0006\n0005\n", "more than once: 0005"),
        ("0005\n".encode("utf-16"), r"test\.txt .*cannot be read: it is not saved as UTF-8, but as UTF-16"),
        (b"0001\n0005\n", "1 scene.* in both (train|val) and test.*0001"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(mini, content, says):
    (mini / "test.txt").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        load_npz(mini)


def test_a_given_val_list_is_used(mini):
    (mini / "val.txt").write_text("0005\n")
    (mini / "test.txt").write_text("0006\n0043\n")
    edit(mini, 'test = "test.txt"', 'test = "test.txt", val = "val.txt"')
    dataset = load_npz(mini)
    assert (len(dataset.ids("train")), dataset.ids("val")) == (14, ["0005"])


# -- fingerprint


def test_the_fingerprint_is_of_the_files_not_of_where_they_lie(mini):
    before = load_npz(mini).fingerprint()
    moved = mini.parent / "elsewhere"
    shutil.copytree(mini, moved)
    assert load_npz(moved).fingerprint() == before


@pytest.mark.parametrize("suffix", ["png", "bmp", "npy"])
def test_an_edit_that_leaves_a_file_equally_large_is_seen(tmp_path, suffix):
    digests = set()
    for value in (1, 2):
        pixels = np.zeros((40, 48), np.uint8)
        pixels[1, 1] = value  # far from the end of the file
        path = tmp_path / f"{value}.{suffix}"
        np.save(path, pixels) if suffix == "npy" else Image.fromarray(pixels).save(path, compress_level=0)
        digests.add(digest(path))
    assert path.stat().st_size == (tmp_path / f"1.{suffix}").stat().st_size
    assert len(digests) == 2


@pytest.mark.parametrize("change", ["label", "settings", "order", "split"])
def test_the_fingerprint_changes_with_files_settings_and_splits(mini, save, change):
    (mini / "val.txt").write_text("0005")
    (mini / "test.txt").write_text("0006\n0043")
    edit(mini, 'test = "test.txt"', 'val = "val.txt", test = "test.txt"')
    before = load_npz(mini).fingerprint()
    if change == "label":
        save(mini / "Label/0003.png", np.ones((40, 48), np.uint8))
    elif change == "settings":
        edit(mini, "scale = 0.001", "scale = 0.002")
    elif change == "order":
        (mini / "test.txt").write_text("0043\n0006")
    else:
        (mini / "val.txt").write_text("0005\n0006")
        (mini / "test.txt").write_text("0043")
    assert load_npz(mini).fingerprint() != before


# -- two sensors of any kind


TWO = """
name = "farm"
classes = ["soil", "crop"]
label = { dir = "Label" }
val_fraction = 0.4
[sensors.red]
dir = "red"
kind = "u8"
unit = "0..255"
invalid = []
mean = [120.0]
std = [60.0]
[sensors.nir]
dir = "nir"
kind = "u16"
scale = 0.0001
unit = "reflectance"
invalid = [0]
mean = [0.3]
std = [0.2]
"""


@pytest.fixture
def farm(tmp_path, save):
    """Red and near infrared, no rgb, no lists: three fields of four frames each, and one more."""
    generator, root = np.random.default_rng(0), tmp_path / "farm"
    for field in (10, 20, 30, 40):
        for frame in range(4):
            name = f"{field + frame}.png"
            save(root / "red" / name, generator.integers(0, 256, (40, 48), dtype=np.uint8))
            save(root / "nir" / name, generator.integers(1, 9000, (40, 48), dtype=np.uint16))
            save(root / "Label" / name, generator.integers(0, 2, (40, 48), dtype=np.uint8))
    (root / "dataset.toml").write_text(TWO)
    return root


def test_two_sensors_without_rgb_are_a_dataset_and_split_by_scene(farm):
    dataset = load_npz(farm)
    assert list(dataset.card.sensors) == ["red", "nir"]
    sample = dataset.read("10")
    check_sample(sample, dataset.card)
    np.testing.assert_array_equal(sample["red"][0], np.asarray(Image.open(farm / "red/10.png")))
    np.testing.assert_allclose(sample["nir"][0], np.asarray(Image.open(farm / "nir/10.png")) / 10000, rtol=1e-6)
    parts = {split: {scene_id[0] for scene_id in dataset.ids(split)} for split in ("train", "val", "test")}
    assert set.union(*parts.values()) == {"1", "2", "3", "4"}
    assert sum(map(len, parts.values())) == 4  # no field is in two splits


def test_a_scene_that_lacks_a_picture_is_left_out_and_named(farm):
    (farm / "nir/12.png").unlink()
    with pytest.warns(DataWarning, match=r"1 scene\(s\) are left out, as they have no nir: 12$"):
        dataset = load_npz(farm)
    assert "12" not in dataset.ids("train") + dataset.ids("val") + dataset.ids("test")


def test_folders_train_and_test_are_the_splits(farm):
    for kind in ("red", "nir", "Label"):
        for path in sorted((farm / kind).iterdir()):
            part = "test" if path.name.startswith("4") else "train"
            (farm / kind / part).mkdir(exist_ok=True)
            path.rename(farm / kind / part / path.name)
    dataset = load_npz(farm)
    assert dataset.ids("test") == [f"test/{i}" for i in (40, 41, 42, 43)]


def test_folders_of_different_names_share_no_scene(farm):
    for path in (farm / "nir").iterdir():
        path.rename(path.with_stem(f"{path.stem}_nir"))
    with pytest.raises(ValueError, match=r"no scene has all its files; found 16 of red.*16 of nir .10_nir"):
        load_npz(farm)
    edit(farm, 'dir = "nir"', 'dir = "nir"\next = "_nir.png"')
    assert load_npz(farm).read("10")["nir_valid"].all()


def test_one_sensor_is_no_study(farm):
    text = (farm / "dataset.toml").read_text()
    (farm / "dataset.toml").write_text(text[: text.index("[sensors.nir]")])
    with pytest.raises(ValueError, match="needs two sensors"):
        load_npz(farm)


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ("night = 'train.txt'", "'night': expected train, val, or a name that begins with test"),
        ("validation = 'test.txt'", "'validation': expected train, val, or a name"),
        ("test_night = 'train.txt'", r"scene\(s\) are in both .*train.* and .*"),
    ],
)
def test_a_split_that_is_measured_is_never_trained_on(mini, lists, says):
    edit(mini, 'test = "test.txt" }', f'test = "test.txt", {lists} }}')
    with pytest.raises(ValueError, match=says):
        load_npz(mini)


def test_a_line_that_names_two_scenes_is_refused(mini):
    (mini / "test.txt").write_text("RGB/0005.jpg Label/0006.png\n")
    with pytest.raises(ValueError, match=r"names two scenes: 'RGB/0005\.jpg Label/0006\.png'"):
        load_npz(mini)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"labelled": 2}, r"labelled 2 is fewer than 3 classes; give 3 to \d+, or 'all'"),
        ({"labelled": 15}, r"labelled 15 is more than the \d+ training scenes"),
        (
            {"labelled": 6, "limit": True, "scenes": (5, 2, 2)},
            "labelled 6 is more than the 5 training scenes; give 3 to 5",
        ),
    ],
)
def test_a_count_of_labelled_scenes_is_checked_against_what_the_folder_holds(given, told, mini):
    config = DataConfig(dataset="folder", root=str(mini))
    with pytest.raises(ValueError, match=told):
        open_dataset(config.model_copy(update=given))
    count = len(open_dataset(config).ids("train"))
    assert len(open_dataset(config.model_copy(update={"labelled": count})).ids("train")) == count
