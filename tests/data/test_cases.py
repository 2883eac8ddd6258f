"""Cases from public reports, rebuilt small: each is read right, or refused by a paragraph that says what to do."""

import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from crodino_lib.config import DataConfig
from crodino_lib.data.decode import decode, open_picture
from crodino_lib.data.folder import open_folder
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles, read_label, read_sensor
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.scene_cache import load_scenes
from crodino_lib.datasets.validate import inspect_folder

HEIGHT, WIDTH = 32, 48
TOML = """
name = "case"
classes = ["wall", "floor", "chair"]
rgb = {{ dir = "rgb" }}
label = {{ dir = "label"{label} }}
{splits}
[sensors.depth]
dir = "depth"
{depth}
unit = "m"
mean = {mean}
std = {std}
"""
LISTS = 'splits = { train = "train.txt", val = "val.txt", test = "test.txt" }'
DEPTH = 'kind = "u16"\nscale = 0.001\ninvalid = [0]'
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def picture(index: int = 0) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def case(tmp_path, save):
    """``case(...)`` writes a folder of eight scenes, four of them for training, and returns it."""

    def write(
        depth=None, label=None, names=None, lists=True, mean="[2.5]", std="[1.0]", depth_toml=DEPTH, label_toml=""
    ):
        names = names or [f"{index}" for index in range(8)]
        for index, name in enumerate(names):
            generator = np.random.default_rng(index)
            metres = generator.uniform(1, 4, (HEIGHT, WIDTH))
            save(tmp_path / f"rgb/{name}.png", picture(index))
            save(tmp_path / f"depth/{name}.png", np.uint16(1000 * metres) if depth is None else depth(metres))
            ids = generator.integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)
            save(tmp_path / f"label/{name}.png", ids if label is None else label(ids))
        parts = {"train": names[:4], "val": names[4:6], "test": names[6:]}
        for split, part in parts.items() if lists else ():
            (tmp_path / f"{split}.txt").write_text("\n".join(part))
        values = {"splits": LISTS if lists else "", "depth": depth_toml, "label": label_toml, "mean": mean, "std": std}
        (tmp_path / "dataset.toml").write_text(TOML.format(**values))
        return tmp_path

    return write


def config_of(root):
    return DataConfig(dataset="folder", root=str(root), size="32x32")


def opened(root):
    return open_folder(config_of(root))


def refused(root, match, split="train"):
    """Both ways in refuse: reading the scenes of a split as a run does, and inspection."""
    with pytest.raises(ValueError, match=match) as error:
        load_scenes(opened(root), split, config_of(root), ("rgb", "depth"))
    problems = inspect_folder(root, "folder", everything=True).problems
    assert any(str(error.value) in problem for problem in problems), problems


def test_the_folder_of_these_tests_is_sound(case):
    root = case()
    assert len(load_scenes(opened(root), "train", config_of(root), ("rgb", "depth"))) == 4
    assert inspect_folder(root, "folder").problems == []


# -- orientation


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_orientation_tags_are_applied(tmp_path, turn, ending):
    stored, path = Image.fromarray(np.kron(picture()[:4, :6], np.ones((8, 8, 1), np.uint8))), tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[274] = turn
    if ending == "tif":
        tifffile.imwrite(path, np.asarray(stored), extratags=[(274, "H", 1, turn, True)])
    else:
        stored.save(path, exif=exif, quality=100)
    plain = tmp_path / f"plain.{ending}"
    stored.save(plain, quality=100)
    upright = Image.fromarray(np.asarray(Image.open(plain))).transpose(TURNS[turn])
    np.testing.assert_array_equal(decode(path), np.asarray(upright))
    assert open_picture(path).orientation == turn


def test_a_turned_picture_agrees_with_its_turned_label(case):
    root, exif = case(), Image.Exif()
    exif[274] = 3
    Image.fromarray(picture(0)[::-1, ::-1]).save(root / "rgb/0.png", exif=exif)
    np.testing.assert_array_equal(opened(root).read("0")["rgb"], picture(0).transpose(2, 0, 1))


def test_a_quarter_turn_that_contradicts_the_label_is_named(case):
    root, exif = case(), Image.Exif()
    exif[274] = 6
    Image.fromarray(picture(0)).save(root / "rgb/0.png", exif=exif)
    with pytest.raises(ValueError, match=r"rgb/0\.png has 32x48 pixels, turned by its EXIF orientation 6"):
        opened(root).read("0")


# -- values


@pytest.mark.parametrize(("kind", "dtype"), [("float", np.float32), ("i16", np.int16)])
def test_the_no_data_tag_of_gdal_is_obeyed(tmp_path, kind, dtype):
    heights = np.arange(200, 224).reshape(4, 6).astype(dtype)
    heights[1, 2] = -10000
    tifffile.imwrite(tmp_path / "a.tif", heights, extratags=[(42113, "s", 0, "-10000", True)])
    image, valid = read_sensor(tmp_path / "a.tif", SensorFiles(dir=".", kind=kind, unit="m", invalid=()))
    np.testing.assert_array_equal(valid[0], heights > 0)
    np.testing.assert_array_equal(image[0], np.where(heights > 0, heights, 0))


def test_fill_values_without_a_tag_are_refused_with_their_count(case):
    def holes(metres):
        metres[0, :3] = 65.535
        return np.uint16(1000 * metres)

    refused(case(depth=holes), r"depth holds the value 65.535 in 12 pixel\(s\) of 4 scene\(s\), .*invalid")


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">u2", ">i2"])
@pytest.mark.parametrize("ending", ["npy", "tif"])
def test_big_endian_values_are_read_right(tmp_path, dtype, ending):
    values, path = np.arange(1, 25).reshape(4, 6).astype(dtype), tmp_path / f"a.{ending}"
    np.save(path, values) if ending == "npy" else tifffile.imwrite(path, values, byteorder=">")
    kind = {"f": "float", "u": "u16", "i": "i16"}[dtype[1]]
    image, _ = read_sensor(path, SensorFiles(dir=".", kind=kind, unit="m", invalid=()))
    np.testing.assert_array_equal(image[0], values.astype(np.float32))


def test_big_endian_bits_of_half_precision_are_read_right(tmp_path):
    values = np.linspace(0.5, 60, 24).reshape(4, 6).astype(np.float16)
    np.save(tmp_path / "a.npy", values.view(np.uint16).astype(">u2"))
    image, _ = read_sensor(tmp_path / "a.npy", SensorFiles(dir=".", kind="f16", unit="m", invalid=()))
    np.testing.assert_array_equal(image[0], values.astype(np.float32))


@pytest.mark.parametrize(("largest", "kind"), [(100, "u8"), (255, "u8"), (4095, "u16"), (65535, "u16")])
@pytest.mark.parametrize("form", [b"P5", b"P2"])
def test_pgm_values_are_never_stretched(tmp_path, largest, kind, form):
    values = np.linspace(0, largest, 24).astype(int).reshape(4, 6)
    header = form + f"\n# a camera\n6 4\n{largest}\n".encode()
    binary = values.astype(np.uint8 if largest < 256 else ">u2").tobytes()
    text = "\n".join(" ".join(map(str, row)) for row in values).encode()
    (tmp_path / "a.pgm").write_bytes(header + (binary if form == b"P5" else text))
    files = SensorFiles(dir=".", kind=kind, unit="counts", invalid=())
    assert files.index(tmp_path) == {"a": tmp_path / "a.pgm"}
    np.testing.assert_array_equal(read_sensor(tmp_path / "a.pgm", files)[0][0], values)


def test_a_cut_pgm_is_refused(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 6 4 4095\n" + bytes(40))
    with pytest.raises(ValueError, match=r"a\.pgm \(52 bytes\) cannot be read"):
        decode(tmp_path / "a.pgm")


def test_colours_of_a_ppm_are_read(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.ppm")
    np.testing.assert_array_equal(decode(tmp_path / "a.ppm"), picture())


def test_a_tiff_with_a_colour_table_is_read_as_a_png_with_one(tmp_path):
    table = np.stack([np.arange(255, -1, -1)] * 3).astype(np.uint16) * 257
    ids = np.arange(24, dtype=np.uint8).reshape(4, 6)
    tifffile.imwrite(tmp_path / "a.tif", ids, photometric="palette", colormap=table)
    grey = SensorFiles(dir=".", kind="u8", unit="0..255", invalid=())
    np.testing.assert_array_equal(read_sensor(tmp_path / "a.tif", grey)[0][0], 255 - ids.astype(int))
    label = LabelFiles(dir=".")
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif", label, label.classes(24)), ids)


def test_a_tiff_with_white_as_zero_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture()[..., 0], photometric="miniswhite")
    with pytest.raises(ValueError, match=r"a\.tif .*white as 0 \(MINISWHITE\).*save it with black as 0"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ("[2500.0]", "[866.0]", r"depth has a mean of 25\d\d m, expected 0.05 to 500 m.*set scale = 0.001"),
        ("[2.5]", "[1.0]", r"depth has a mean of 25\d\d m, expected 0.05 to 500 m.*set scale = 0.001"),
    ],
)
def test_millimetres_called_metres_are_refused(case, mean, std, says):
    refused(case(depth_toml='kind = "u16"\ninvalid = [0]', mean=mean, std=std), says)


@pytest.mark.parametrize(
    ("depth", "says"),
    [
        (lambda metres: np.uint16(1000 * metres).byteswap(), "depth is .* far from the stated 2.5"),
        (lambda metres: np.zeros_like(metres, np.uint16), "depth has no valid pixel in any scene"),
        (lambda metres: np.full_like(metres, 255, np.uint16), "depth is 0.255 m in every pixel"),
        (lambda metres: np.uint16(10000 * metres), "depth is .* far from the stated 2.5"),
    ],
    ids=["bytes swapped", "no measurement", "opaque", "other scale"],
)
def test_what_inspection_finds_is_not_trained_on(case, depth, says):
    refused(case(depth=depth), says)


# -- labels


def test_masks_of_0_and_255_are_asked_about(case):
    root = case(label=lambda ids: np.where(ids > 0, 255, 0).astype(np.uint8))
    refused(root, "every labelled pixel is 'wall', expected two classes.* are ignored.*255.*set ignore")
    root = case(
        label=lambda ids: np.where(ids > 0, 255, 0).astype(np.uint8), label_toml=", ignore = [], map = { 255 = 1 }"
    )
    assert np.unique(opened(root).read("0")["label"]).tolist() == [0, 1]


def test_an_offset_on_labels_that_start_at_zero_is_refused(case):
    says = "offset = -1 ignores id 0 and makes id 3 the class 'chair', but .* never 3 .*remove offset.*ignore = .0."
    refused(case(label_toml=", offset = -1"), says)
    assert opened(case(label_toml=", offset = -1, ignore = [0]")).read("0")["label"].max() == 255  # confirmed


def test_classes_of_one_name_are_refused_with_their_positions(case):
    root = case()
    path = root / "dataset.toml"
    path.write_text(path.read_text().replace('"wall", "floor", "chair"', '"void", "wall", "void"'))
    refused(root, "classes 0 and 2 are both 'void'")


def test_a_test_split_without_labels_is_refused(case):
    root = case()
    for name in ("6", "7"):
        Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(root / f"label/{name}.png")
    refused(root, "case, split test: no pixel has a label", split="test")


def test_minus_one_may_be_ignored_and_integers_be_wide(tmp_path):
    ids = np.array([[-1, 0, 2]], np.int32)
    np.save(tmp_path / "a.npy", ids)
    files = LabelFiles(dir=".", ignore=(-1,))
    assert read_label(tmp_path / "a.npy", files, files.classes(3)).tolist() == [[255, 0, 2]]
    files = LabelFiles(dir=".")
    with pytest.raises(ValueError, match=r"a\.npy holds the ids \[-1\], which are no class; .*ignore"):
        read_label(tmp_path / "a.npy", files, files.classes(3))


def test_masks_of_one_bit_are_ids(tmp_path):
    mask = picture()[..., 0] > 127
    Image.fromarray(mask).save(tmp_path / "a.png")
    files = LabelFiles(dir=".")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", files, files.classes(2)), mask)


# -- splits and files


def test_copies_are_never_in_two_drawn_splits(case):
    names = [f"room{room}_1" for room in range(16)]
    root = case(names=names, lists=False)
    with pytest.warns(DataWarning, match="A group is all names that are equal up to their last number"):
        dataset = opened(root)
    one, other = dataset.ids("train")[0], dataset.ids("test")[0]
    for kind in ("rgb", "depth"):
        shutil.copy(root / f"{kind}/{one}.png", root / f"{kind}/{other}.png")
    with pytest.warns(DataWarning):
        refused(
            root, rf"the scenes {one} of train and {other} of test are equal files, .*remove one, or write split lists"
        )


def test_copies_in_splits_that_lists_give_are_told(case):
    root = case()
    for kind in ("rgb", "depth"):
        shutil.copy(root / f"{kind}/0.png", root / f"{kind}/7.png")
    with pytest.warns(DataWarning, match="the scenes 0 of train and 7 of test are equal files"):
        opened(root)


def test_hidden_and_temporary_files_are_no_scenes(case):
    root = case()
    for name in ("._0.png", "~0.png", ".thumbnails/0.png", "__MACOSX/0.png"):
        (root / "rgb" / name).parent.mkdir(exist_ok=True)
        (root / "rgb" / name).write_bytes(b"not a picture")
    (root / "README.md").symlink_to("nowhere")
    assert sorted(ImageFiles(dir="rgb").index(root)) == [f"{index}" for index in range(8)]
    assert inspect_folder(root, "folder").problems == []


def test_a_folder_elsewhere_may_be_named_by_its_absolute_path(case, tmp_path_factory):
    root, elsewhere = case(), tmp_path_factory.mktemp("elsewhere")
    (root / "depth").rename(elsewhere / "depth")
    path = root / "dataset.toml"
    path.write_text(path.read_text().replace('dir = "depth"', f'dir = "{elsewhere}/depth"'))
    assert opened(root).read("0")["depth_valid"].all()


@pytest.mark.parametrize(("name", "proposal"), [("depth.raw", "depth_raw"), ("a/b", "a_b"), ("type", "type_sensor")])
def test_sensors_that_no_network_can_hold_are_refused_with_a_proposal(case, name, proposal):
    root = case()
    path = root / "dataset.toml"
    path.write_text(path.read_text().replace("[sensors.depth]", f'[sensors."{name}"]'))
    with pytest.raises(ValueError, match=rf"'{name}' cannot be the name of a sensor.*'{proposal}'"):
        opened(root)


def test_many_classes_need_no_palette(case):
    root = case()
    path = root / "dataset.toml"
    names = ", ".join(f'"class {index}"' for index in range(90))
    path.write_text(path.read_text().replace('"wall", "floor", "chair"', names))
    assert len(opened(root).card.palette) == 90


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"<!DOCTYPE html>", "a web page")],
)
def test_what_is_no_picture_is_named(tmp_path, content, says):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        decode(tmp_path / "a.png")


def test_an_ending_may_be_given_without_its_dot():
    assert ImageFiles(dir="rgb", ext="png").ext == ".png"
    assert ImageFiles(dir="rgb", ext="_rgb.png").ext == "_rgb.png"
