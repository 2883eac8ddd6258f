"""Cases of our own, found by people who did not know the reader: each is read right, or refused with what to do."""

import fcntl
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from crodino_lib.config import StudyConfig
from crodino_lib.data.decode import decode
from crodino_lib.data.folder_spec import FolderSpec
from crodino_lib.data.image_files import LabelFiles, SensorFiles
from crodino_lib.io import file_lock
from crodino_lib.study.study import Study
from tests.data.test_cases import HEIGHT, WIDTH, case, opened, picture, refused  # noqa: F401 (case is a fixture)


def edited(root, old, new):
    path = root / "dataset.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return root


@pytest.mark.parametrize(("mode", "ending"), [("YCbCr", "tif"), ("LAB", "tif"), ("CMYK", "tif"), ("CMYK", "jpg")])
def test_other_colour_spaces_are_never_read_as_rgb(tmp_path, mode, ending):
    image = Image.fromarray(picture())
    path = tmp_path / f"a.{ending}"
    (image if mode == "LAB" else image.convert(mode)).save(path)
    if mode == "LAB":
        tifffile.imwrite(path, picture(), photometric="cielab")
    with pytest.raises(ValueError, match=r"its colours are stored as .*, expected RGB or grey"):
        decode(path)


def test_a_tiff_whose_jpeg_compression_has_its_own_colours_is_rgb(tmp_path):
    flat = np.broadcast_to(np.uint8([200, 40, 90]), (64, 64, 3))
    tifffile.imwrite(tmp_path / "a.tif", flat, photometric="rgb", compression="jpeg", compressionargs={"level": 95})
    assert np.abs(decode(tmp_path / "a.tif").astype(int) - flat).max() < 12


def test_labels_in_a_jpeg_are_refused_whatever_their_values(case):  # noqa: F811
    root = case()
    for path in (root / "label").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"), quality=90)
        path.unlink()
    with pytest.raises(ValueError, match=r"label/0\.jpg is a JPEG, whose compression changes ids; expected a PNG"):
        opened(root)


def test_colour_tables_that_contradict_each_other_are_refused_until_colours_count(case):  # noqa: F811
    root, colours = case(), ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    expected = np.asarray(Image.open(root / "label/1.png"))
    for index in range(8):
        order = np.roll(np.arange(3), index)  # class -> id in this file
        indexed = Image.fromarray(order.astype(np.uint8)[np.asarray(Image.open(root / f"label/{index}.png"))], "P")
        indexed.putpalette([value for entry in np.argsort(order) for value in colours[entry]])
        indexed.save(root / f"label/{index}.png")
    refused(root, r"id 0 is #00ff00 in the colour table of .*label/1\.png and #ff0000 in other labels.*State colours")
    edited(root, 'label"', 'label", colours = { "#ff0000" = 0, "#00ff00" = 1, "#0000ff" = 2 }')
    np.testing.assert_array_equal(opened(root).read("1")["label"], expected)


def test_a_line_that_is_a_scene_as_a_whole_is_that_scene(case):  # noqa: F811
    names = ["a", "a copy", "#1", "RGB 2", "b", "c", "d", "e"]
    root = case(names=names)
    assert opened(root).splits["train"] == names[:4]
    (root / "train.txt").write_text("# a comment\nrgb\\a copy.png\na label.png\n")
    assert opened(root).splits["train"] == ["a copy", "a"]


def test_lists_may_hold_whole_names_of_files_of_which_the_id_is_a_part(case):  # noqa: F811
    root = case(names=[f"x_{index}" for index in range(8)])
    for folder in ("rgb", "depth", "label"):
        text = (root / "dataset.toml").read_text()
        (root / "dataset.toml").write_text(text.replace(f'dir = "{folder}"', f'dir = "{folder}"\npattern = "x_(.+)"'))
    text = (root / "dataset.toml").read_text()
    (root / "dataset.toml").write_text(text.replace('"\npattern', '", pattern').replace("}\n[s", "}\n\n[s"))
    edited(root, 'dir = "depth", pattern', 'dir = "depth"\npattern')
    assert opened(root).splits["train"] == ["0", "1", "2", "3"]


def test_no_mean_is_proposed_over_a_fill_value(case):  # noqa: F811
    def saturated(metres):
        return np.where(metres > 3.5, 65535, 1000 * metres).astype(np.uint16)

    root = case(depth=saturated, mean="[]", std="[]")
    with pytest.raises(
        ValueError, match=r"% of its values are 65535 as stored, far from all others; add it to invalid"
    ):
        opened(root)
    edited(root, "invalid = [0]", "invalid = [0, 65535]")
    with pytest.raises(ValueError, match=r"measured on 4 scenes of train: mean = \[2\.2"):
        opened(root)


def test_numbers_with_a_sign_that_are_read_without_it_are_told(case):  # noqa: F811
    celsius = case(depth=lambda metres: np.int16(200 * (metres - 2.5)).view(np.uint16), mean="[]", std="[]")
    edited(celsius, "scale = 0.001\ninvalid = [0]", "scale = 0.01\ninvalid = []")
    with pytest.raises(ValueError, match="values are above 49152, and none from 16384 to there: numbers with a sign"):
        opened(celsius)


def test_distances_that_are_none_are_counted(case):  # noqa: F811
    def with_zeros(metres):
        return np.where(metres > 3.9, 0, 1000 * metres).astype(np.uint16)

    root = case(depth=with_zeros, depth_toml='kind = "u16"\nscale = 0.001\ninvalid = []')
    refused(root, r"depth is 0 m or less in \d+ pixel\(s\), which is no distance: add the value, as it is stored")
    root = case(depth=lambda metres: np.uint16(40000 - np.arange(metres.size).reshape(metres.shape)))
    edited(root, "scale = 0.001", "scale = -0.001")
    refused(root, r"mean of -39.* Files seem to hold heights, or scale has the wrong sign")


def test_entries_of_the_same_files_and_files_that_are_all_equal_are_told(case):  # noqa: F811
    root = case()
    for path in (root / "rgb").iterdir():
        Image.fromarray(picture()).save(path)
    for split, names in {"train": "01234", "val": "5"}.items():
        (root / f"{split}.txt").write_text("\n".join(names))
    refused(root, "rgb has the same values in all 5 scenes")
    edited(root, 'dir = "depth"', 'dir = "label"')
    with pytest.raises(ValueError, match="depth and label are the same files, those of 'label'"):
        opened(root)


def test_a_class_that_no_id_becomes_is_refused(case):  # noqa: F811
    with pytest.raises(ValueError, match="no id becomes the class 'wall': ignore and map leave none"):
        opened(case(label_toml=", ignore = [0]"))


def test_a_training_split_of_one_scene_is_refused_when_the_folder_is_read(case):  # noqa: F811
    root = case()
    (root / "train.txt").write_text("0\n")
    with pytest.raises(ValueError, match="the split train has one scene, 0; training needs two at least"):
        opened(root)


def test_a_picture_of_too_many_pixels_is_to_be_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 4)
    Image.fromarray(picture()).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="more than 768 pixels; cut it into tiles first"):
        decode(tmp_path / "a.png")


def test_a_file_where_a_folder_is_expected_is_called_a_file(case):  # noqa: F811
    root = case()
    for path in (root / "depth").iterdir():
        path.unlink()
    (root / "depth").rmdir()
    (root / "depth").write_text("")
    with pytest.raises(FileNotFoundError, match="depth is a file, expected a folder; unpack it"):
        opened(root)


def test_a_study_is_named_after_its_folder_s_own_name_and_takes_the_sensors_there_are(case, tmp_path):  # noqa: F811
    settings = {"dataset": "folder", "root": str(case()), "profile": "smoke"}
    assert Study(StudyConfig.parse(settings), tmp_path / "r").config.name == "case-smoke"
    edited(tmp_path, 'name = "case"', 'name = "other"')
    edited(tmp_path, "[sensors.depth]", "[sensors.range]")
    study = Study(StudyConfig.parse(settings), tmp_path / "r")
    assert (study.config.name, study.config.sensors) == ("other-smoke", ("rgb", "range"))
    assert StudyConfig.parse(study.config.flat()) == study.config
    assert Study(StudyConfig.parse(settings | {"study": "mine"}), tmp_path / "r").config.name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("invalid = [0]", "invalid = 0", r"invalid = 0: expected a list, such as \[255\]"),
        ('rgb = { dir = "rgb" }', 'rgb = "rgb"', "rgb = 'rgb': expected a table of settings"),
        ('"wall", "floor"', '1, "floor"', "expected text, in quotes"),
    ],
)
def test_settings_of_a_wrong_type_say_what_is_expected(case, old, new, says):  # noqa: F811
    with pytest.raises(ValueError, match=says):
        opened(edited(case(), old, new))


def test_settings_that_are_not_utf8_say_so(case):  # noqa: F811
    root = case()
    (root / "dataset.toml").write_bytes((root / "dataset.toml").read_text().encode("utf-16"))
    with pytest.raises(ValueError, match=r"dataset\.toml is not saved as UTF-8"):
        opened(root)


def test_a_disk_that_cannot_lock_says_which_setting_moves_files_elsewhere(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        pytest.raises(OSError, match=r"cannot lock files \(No locks available\).*CRODINO_HOME holds results"),
        file_lock(tmp_path),
    ):
        pass


def test_every_key_of_a_settings_file_is_in_the_documentation():
    table = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text().split("Every key:")[1].split("\n\n")[1]
    documented = set(re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines())))
    own = {*FolderSpec.model_fields, *SensorFiles.model_fields, *LabelFiles.model_fields}
    assert documented == own - {"name", "classes", "rgb", "sensors", "label"}  # those of the example above it
