"""Names, bands and colours of files, beyond what the folder tests show."""

import sys
import zlib

import numpy as np
import pytest
import tifffile

from crodino_lib.data.decode import decode
from crodino_lib.data.image_files import (
    ImageFiles,
    LabelFiles,
    SensorFiles,
    read_label,
    read_picture,
    read_sensor,
)
from crodino_lib.data.layouts import LayoutError, choose_layout
from crodino_lib.data.sample import RGB, DatasetCard, Sensor, check_sample

COLOURS = {"#000000": 0, "#ff0000": 1, "#0000ff": 2, "#ffffff": 255}
GRADIENT = np.arange(12 * 10 * 4, dtype=np.uint16).reshape(12, 10, 4)


def test_groups_of_a_pattern_are_the_id_and_other_files_are_not_ours(tmp_path):
    for name in ("set00/V000/visible/I01.jpg", "set00/V000/lwir/I01.jpg", "set00/V001/visible/I01.JPG"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"")
    files = ImageFiles(dir="images", ext=".jpg", pattern=r"(set\d\d)/(V\d{3})/visible/(I\d+)")
    assert sorted(files.index(tmp_path)) == ["set00/V000/I01", "set00/V001/I01"]


@pytest.mark.parametrize(("pattern", "says"), [("(", "not a regular expression"), ("a+", "has no group")])
def test_a_pattern_that_gives_no_id_is_refused(pattern, says):
    with pytest.raises(ValueError, match=rf"pattern.*{says}"):
        ImageFiles.parse({"dir": "x", "pattern": pattern})


def test_bands_of_one_file_are_different_sensors(tmp_path, save):
    rgbt = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    path = save(tmp_path / "a.png", rgbt)
    np.testing.assert_array_equal(read_picture(path, "rgb", (0, 1, 2)).pixels, rgbt[..., :3].transpose(2, 0, 1))
    np.testing.assert_array_equal(read_picture(path, "u8", (3,)).pixels[0], rgbt[..., 3])
    with pytest.raises(ValueError, match=r"a\.png holds uint8 of shape \(12, 10, 4\), expected at least 5 channels"):
        read_picture(path, "u8", (4,))


def test_a_label_may_be_one_band(tmp_path, save):
    ids = np.random.default_rng(0).integers(0, 3, (12, 10), dtype=np.uint8)
    path, files = save(tmp_path / "a.png", np.stack([ids, ids * 0, ids * 0], axis=2)), LabelFiles(dir=".", bands=(0,))
    np.testing.assert_array_equal(read_label(path, files, files.classes(3)), ids)


def test_half_precision_in_sixteen_bits_is_read_by_its_bits(tmp_path, save):
    metres = np.float16([[1.5, np.inf], [np.nan, 1250], [0, 0.001]])
    files = SensorFiles(dir=".", kind="f16", unit="m", invalid=(0,))
    image, valid = read_sensor(save(tmp_path / "a.png", metres.view(np.uint16)), files)
    np.testing.assert_array_equal(valid[0], [[True, False], [False, True], [False, True]])
    np.testing.assert_array_equal(image[0], np.where(valid[0], metres, 0).astype(np.float32))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_a_tiff_of_four_bands_is_read_as_stored(tmp_path, planar, compression):
    stored = GRADIENT if planar == "contig" else GRADIENT.transpose(2, 0, 1)
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, compression=compression, extrasamples=[0]
    )
    np.testing.assert_array_equal(decode(tmp_path / "a.tif"), GRADIENT)


def test_without_tifffile_it_is_said_what_to_install(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", GRADIENT[..., 0])
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match=r"a\.tif is read by tifffile.*pip install 'crodino\[potsdam\]'"):
        decode(tmp_path / "a.tif")


def test_colours_round_trip_through_their_ids(tmp_path, save):
    files, ids = LabelFiles(dir=".", colours=COLOURS), np.random.default_rng(0).choice([0, 1, 2, 255], (12, 10))
    table = np.zeros((256, 3), np.uint8)
    for colour, index in COLOURS.items():
        table[index] = list(bytes.fromhex(colour[1:]))
    path = save(tmp_path / "a.png", table[ids])
    np.testing.assert_array_equal(read_label(path, files, files.classes(3)), ids)


def test_a_colour_that_means_no_class_is_named_with_its_share(tmp_path, save):
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[0, :5] = (255, 0, 1)
    files = LabelFiles(dir=".", colours=COLOURS)
    with pytest.raises(ValueError, match=r"a\.png: 5\.0% of the pixels .* such as #ff0001; expected #000000"):
        read_label(save(tmp_path / "a.png", picture), files, files.classes(3))


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)])
def test_ids_where_colours_are_expected_are_refused(tmp_path, save, array):
    files = LabelFiles(dir=".", colours=COLOURS)
    with pytest.raises(ValueError, match=r"a\.png holds uint8 .*expected kind 'rgb'"):
        read_label(save(tmp_path / "a.png", array), files, files.classes(3))


# -- where they lie


def test_a_folder_is_found_two_levels_down_and_the_nearest_counts(tmp_path):
    (tmp_path / "a/b/images").mkdir(parents=True)
    assert choose_layout(tmp_path, {"one": ["images"]}, "x") == (tmp_path / "a/b", "one")
    (tmp_path / "c/images").mkdir(parents=True)
    assert choose_layout(tmp_path, {"one": ["images"]}, "x") == (tmp_path / "c", "one")


def test_an_archive_that_was_not_unpacked_is_pointed_at(tmp_path):
    (tmp_path / "data.ZIP").write_bytes(b"PK")
    says = r"is not x: it holds data\.ZIP, expected the folders images.*Unpack data\.ZIP"
    with pytest.raises(LayoutError, match=says):
        choose_layout(tmp_path, {"one": ["images"]}, "x")


def test_every_layout_that_was_tried_is_told(tmp_path):
    layouts = {"one": ["rgb"], "two": ["RGB", "L"]}
    with pytest.raises(LayoutError, match=r"is not x: it holds nothing, .* folders rgb \(one\) or L, RGB \(two\)"):
        choose_layout(tmp_path, layouts, "x")
    (tmp_path / "RGB").mkdir()
    (tmp_path / "L").mkdir()
    assert choose_layout(tmp_path, layouts, "x") == (tmp_path, "two")


# -- the contract


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": np.zeros((4, 6), np.uint8)}, r"label is uint8 \(4, 6\), expected int64"),
        ({"rgb": np.zeros((4, 4, 6), np.uint8)}, r"rgb is uint8 \(4, 4, 6\), expected uint8 \(3, 4, 6\)"),
        (
            {"rgb": np.zeros((3, 6, 4), np.uint8)},
            r"rgb is uint8 \(3, 6, 4\), expected uint8 \(3, 4, 6\); .* its label, which has 6x4 pixels",
        ),
        ({"depth_valid": np.ones((4, 6), bool)}, r"depth_valid is bool \(4, 6\), expected bool \(1, 4, 6\)"),
        ({"label": np.full((4, 6), 2)}, r"the label holds \[2\], outside the classes 0\.\.1"),
    ],
)
def test_a_sample_that_breaks_the_contract_is_named(change, says):

    depth = Sensor(1, "m", (2.0,), (1.0,))
    card = DatasetCard("x", "X", {"rgb": RGB, "depth": depth}, ("a", "b"), ((0,) * 3,) * 2, ("train",), (6, 4))
    sample = {
        "id": "7",
        "rgb": np.zeros((3, 4, 6), np.uint8),
        "depth": np.zeros((1, 4, 6), np.float32),
        "depth_valid": np.ones((1, 4, 6), bool),
        "label": np.zeros((4, 6), np.int64),
    }
    check_sample(sample, card)
    with pytest.raises(ValueError, match=rf"scene '7' of x: {says}"):
        check_sample({**sample, **change}, card)


# -- what decoders would change


def png(path, depth: int, colour: int, row: bytes):
    """A one-row PNG of four pixels with the bit depth and colour type of the header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    header = (4).to_bytes(4) + (1).to_bytes(4) + bytes([depth, colour, 0, 0, 0])
    data = zlib.compress(b"\0" + row)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    ("depth", "colour", "row", "stored"),
    [(16, 2, bytes(24), "RGB;16B"), (4, 0, bytes([0x01, 0x20]), "L;4"), (2, 0, bytes([0b00011000]), "L;2")],
)
def test_values_that_pillow_would_scale_are_refused(tmp_path, depth, colour, row, stored):
    with pytest.raises(ValueError, match=rf"a\.png .*cannot be read: values are stored as {stored}"):
        decode(png(tmp_path / "a.png", depth, colour, row))


def test_a_tiff_of_several_pictures_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRADIENT.transpose(2, 0, 1), photometric="minisblack")
    with pytest.raises(ValueError, match=r"a\.tif .*holds 4 pictures, expected one"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["lzw", "zlib"])
def test_a_compressed_tiff_that_is_damaged_is_named(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRADIENT[..., 0], compression=compression)
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif .*cannot be read"):
        decode(path)


def test_links_are_followed_and_loops_end(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.png").write_bytes(b"")
    (tmp_path / "rgb").mkdir()
    (tmp_path / "rgb/part").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "rgb/loop").symlink_to(tmp_path / "rgb")
    assert sorted(ImageFiles(dir="rgb").index(tmp_path)) == ["part/1"]


def test_a_label_is_one_band_of_those_there_are(tmp_path, save):
    with pytest.raises(ValueError, match=r"bands = .*at most 1 item"):
        LabelFiles.parse({"dir": "x", "bands": [0, 1]})
    files = LabelFiles(dir=".", bands=(5,))
    with pytest.raises(ValueError, match=r"a\.png holds uint8 of shape \(4, 4, 3\), expected at least 6 channels"):
        read_label(save(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8)), files, files.classes(3))


def test_a_colour_cannot_mean_two_ids():
    with pytest.raises(ValueError, match="#FF0000"):
        LabelFiles.parse({"dir": "x", "colours": {"#FF0000": 0, "#ff0000": 1}})


@pytest.mark.parametrize("array", [np.zeros(()), np.zeros((0, 4), np.uint8)])
def test_a_label_that_is_no_picture_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    files = LabelFiles(dir=".")
    with pytest.raises(ValueError, match=r"a\.npy holds \w+ of shape"):
        read_label(tmp_path / "a.npy", files, files.classes(3))
