"""Potsdam: crops of tiles, bands, heights, labels in colours; TIFFs of every kind; copies that are not right."""

import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from miniatures import potsdam as mini

from crodino_lib.config import DataConfig
from crodino_lib.data.decode import decode
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.sample import check_sample
from crodino_lib.datasets import potsdam
from crodino_lib.datasets.potsdam import PotsdamOptions, open_potsdam, stored_size

TILE = "6_9"
FEW = {"train": [TILE, "6_8"], "val": ["4_12"], "test": ["2_13", "3_13"]}
LABEL = f"5_Labels_all/top_potsdam_{TILE}_label.tif"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return mini.write(tmp_path_factory.mktemp("written"), mini.LAYERS)


@pytest.fixture(scope="module")
def published(written):
    """``published(**options)`` opens the complete miniature, once for every choice of options."""
    seen = {}

    def opened_once(**options):
        key = str((options, potsdam.TABLES["protocols"]["isprs"]))
        seen[key] = seen.get(key) or open_copy(written, **options)
        return seen[key]

    return opened_once


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Miniatures are as large as tiles are here, and what is told of a copy is an error unless a test awaits it."""
    monkeypatch.setattr(potsdam, "TILE_SIZE", (mini.WIDTH, mini.HEIGHT))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def copy(tmp_path, written, monkeypatch):
    """``copy("1_DSM", ...)`` copies five tiles of these folders, by default of the three that are read by default."""
    monkeypatch.setitem(potsdam.TABLES["protocols"], "isprs", FEW)
    names = [f"_{name(tile)}" for tiles in FEW.values() for tile in tiles for name in (str, mini.padded)]

    def copied(*folders: str) -> Path:
        for folder in folders or ("2_Ortho_RGB", "1_DSM", "5_Labels_all"):
            (tmp_path / "Potsdam" / folder).mkdir(parents=True)
            for path in (written / folder).iterdir():
                if any(f"{name}{end}" in path.name for name in names for end in "._"):
                    shutil.copy(path, tmp_path / "Potsdam" / folder)
        return tmp_path / "Potsdam"

    return copied


def open_copy(root, **options):
    config = DataConfig(dataset="potsdam", root=str(root), options={"tile_px": 16} | options)
    return open_potsdam(config)


def whole(dataset, tile, entry):
    """One entry of a tile put together from its crops."""
    parts = {
        i: dataset.read(i)[entry]
        for split in dataset.card.splits
        for i in dataset.ids(split)
        if i.startswith(f"{tile}/")
    }
    first = next(iter(parts.values()))
    pixels = np.zeros((*first.shape[:-2], mini.HEIGHT, mini.WIDTH), first.dtype)
    for scene_id, part in parts.items():
        top, left = (int(place[1:]) for place in scene_id.split("/")[1].split("_"))
        pixels[..., top : top + 16, left : left + 16] = part
    return pixels


def patch_tile(root, folder, tile, pixels, **how):
    (path,) = (root / folder).glob(f"*_{tile}_*.tif" if "DSM" not in folder else f"*_{mini.padded(tile)}.tif")
    return mini.tiff(path, pixels, **how)


def channels_first(*planes):
    return np.stack(planes)


def test_crops_are_the_pixels_of_their_tile_in_all_layers(published):
    dataset = published()
    red, green, blue, _ = np.moveaxis(mini.bands(TILE), -1, 0)
    np.testing.assert_array_equal(whole(dataset, TILE, "rgb"), channels_first(red, green, blue))
    np.testing.assert_array_equal(whole(dataset, TILE, "height")[0], mini.heights(TILE))
    np.testing.assert_array_equal(whole(dataset, TILE, "label"), mini.classes(TILE))
    assert whole(dataset, TILE, "height_valid").all()


def test_every_crop_keeps_the_contract(published):
    for options in ({}, {"bands": "rgbir", "height": "ndsm", "truth": "eroded", "clutter": "ignore"}):
        dataset = published(**options)
        assert dataset.card.native_size == (16, 16)
        for split in dataset.card.splits:
            for scene_id in dataset.ids(split)[::7]:
                sample = dataset.read(scene_id)
                check_sample(sample, dataset.card)
                assert sample["label"].shape == (16, 16)
                assert set(sample) == {"id", "label", "rgb"} | {
                    name + end for name in dataset.card.sensors if name != "rgb" for end in ("", "_valid")
                }


def test_infrared_is_a_fourth_band_of_its_own(published):
    dataset = published(bands="rgbir")
    red, green, blue, infrared = np.moveaxis(mini.bands(TILE), -1, 0)
    np.testing.assert_array_equal(whole(dataset, TILE, "rgb"), channels_first(red, green, blue))
    np.testing.assert_array_equal(whole(dataset, TILE, "ir")[0], infrared)
    assert whole(dataset, TILE, "ir_valid").all()
    assert dataset.card.sensors["ir"].unit == "0..255"
    assert list(dataset.card.sensors) == ["rgb", "ir", "height"]


@pytest.mark.parametrize(
    ("bands", "folder", "order"), [("rgb", "2_Ortho_RGB", (0, 1, 2)), ("irrg", "3_Ortho_IRRG", (3, 0, 1))]
)
def test_bands_of_their_own_folder_and_those_of_the_file_of_all_bands_agree(copy, written, bands, folder, order):
    root = copy("4_Ortho_RGBIR", "1_DSM", "5_Labels_all")
    own, derived = open_copy(written, bands=bands), open_copy(root, bands=bands)
    assert folder in str(own._files[TILE]["rgb"])
    assert "RGBIR" in str(derived._files[TILE]["rgb"])
    expected = mini.bands(TILE)[..., order].transpose(2, 0, 1)
    for dataset in (own, derived):
        np.testing.assert_array_equal(whole(dataset, TILE, "rgb"), expected)
    assert own.fingerprint() != derived.fingerprint()


def test_the_fourth_band_is_read_as_stored_whatever_it_is_called(copy):
    root = copy("4_Ortho_RGBIR", "1_DSM", "5_Labels_all")
    ways = [{"photometric": "rgb", "extrasamples": [extra]} for extra in ("unspecified", "unassalpha", "assocalpha")]
    for how in (*ways, {"photometric": "minisblack", "planarconfig": "contig"}):
        tifffile.imwrite(root / f"4_Ortho_RGBIR/top_potsdam_{TILE}_RGBIR.tif", mini.bands(TILE), **how)
        np.testing.assert_array_equal(whole(open_copy(root, bands="irrg"), TILE, "rgb")[0], mini.bands(TILE)[..., 3])


def test_crops_cover_every_tile_and_are_equally_large():
    assert potsdam.crop_starts(40, 16, 16) == [0, 16, 24]
    assert potsdam.crop_starts(48, 16, 16) == [0, 16, 32]
    assert potsdam.crop_starts(6000, 512, 512)[-2:] == [5120, 5488]
    assert potsdam.crop_starts(16, 16, 16) == [0]
    for length, crop, stride in ((40, 16, 5), (41, 16, 16), (17, 16, 16), (40, 40, 1)):
        covered = np.zeros(length, int)
        for start in potsdam.crop_starts(length, crop, stride):
            assert 0 <= start <= length - crop
            covered[start : start + crop] += 1
        assert covered.all()


def test_ids_name_tile_row_and_column(published):
    ids = published().ids("test")
    assert ids[:4] == ["2_13/r0_c0", "2_13/r0_c16", "2_13/r0_c32", "2_13/r16_c0"]
    assert ids[8] == "2_13/r24_c32"
    assert len(ids) == 14 * 9


def test_a_stride_adds_crops_to_train_only(published):
    plain, dense = published(), published(stride_px=8)
    assert len(dense.ids("train")) == 21 * 4 * 5
    assert set(plain.ids("train")) < set(dense.ids("train"))
    for split in ("val", "test"):
        assert dense.ids(split) == plain.ids(split)
    sample = dense.read(f"{TILE}/r8_c8")
    np.testing.assert_array_equal(sample["label"], mini.classes(TILE)[8:24, 8:24])


@pytest.mark.parametrize(
    "options", [{"stride_px": 17}, {"bands": "bgr"}, {"tile": 16}, {"tile_px": 8}, {"stride_px": 0}]
)
def test_an_option_that_makes_no_sense_is_refused(written, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        open_copy(written, **options)
    assert (PotsdamOptions().tile_px, PotsdamOptions().stride_px) == (512, None)


def test_the_published_splits_are_complete_and_apart(published):
    counts = {}
    for split in ("isprs", "ftransunet", "geoseg"):
        dataset = published(split=split)
        tiles = {name: list(dict.fromkeys(i.split("/")[0] for i in dataset.ids(name))) for name in dataset.card.splits}
        assert list(tiles) == ["train", "val", "test"]
        counts[split] = [len(part) for part in tiles.values()]
        assert len(set().union(*tiles.values())) == sum(counts[split])  # no tile is on two sides
        if split == "isprs":
            assert tiles["val"] == ["5_10", "5_11", "5_12"]
            assert sorted(tiles["train"] + tiles["val"]) == sorted(mini.PARTICIPANTS)
            assert tiles["test"] == mini.WITHHELD
        elif split == "ftransunet":
            assert tiles["val"] == ["5_10", "5_12"]
            assert tiles["test"] == ["4_10", "5_11", "2_11", "3_10", "6_11", "7_12"]
            assert set().union(*tiles.values()) == set(mini.PARTICIPANTS)
        else:
            assert tiles["val"] == ["2_10"]
            assert set(mini.TILES) - set().union(*tiles.values()) == {"7_10"}
            assert tiles["test"] == mini.WITHHELD
    assert counts == {"isprs": [21, 3, 14], "ftransunet": [16, 2, 6], "geoseg": [22, 1, 14]}


def test_a_protocol_of_the_participants_needs_no_other_tile(tmp_path):
    root = mini.write(tmp_path, tiles=mini.PARTICIPANTS)
    assert len(open_copy(root, split="ftransunet").ids("test")) == 6 * 9
    with pytest.raises(FileNotFoundError, match="42 file"):
        open_copy(root)


def test_the_order_of_classes_is_one_of_two_and_both_round_trip(published):
    first, last = published(), published(order="clutter-first")
    assert first.card.classes == ("impervious surface", "building", "low vegetation", "tree", "car", "clutter")
    assert last.card.classes == ("clutter", "impervious surface", "building", "low vegetation", "tree", "car")
    for dataset in (first, last):
        label = whole(dataset, TILE, "label")
        np.testing.assert_array_equal(np.array(dataset.card.palette)[label], mini.PALETTE[mini.classes(TILE)])
        assert set(np.unique(label)) == set(range(6))


@pytest.mark.parametrize("order", ["impervious-first", "clutter-first"])
def test_clutter_can_be_ignored(written, order):
    dataset = open_copy(written, order=order, clutter="ignore")
    assert dataset.card.classes == ("impervious surface", "building", "low vegetation", "tree", "car")
    expected = np.where(mini.classes(TILE) == 5, 255, mini.classes(TILE))
    np.testing.assert_array_equal(whole(dataset, TILE, "label"), expected)


def test_borders_of_eroded_labels_are_ignored_and_the_rest_is_the_full_label(published):
    label = whole(published(truth="eroded"), TILE, "label")
    border = mini.eroded(TILE) == 6
    assert 0 < border.mean() < 0.9
    np.testing.assert_array_equal(label, np.where(border, 255, mini.classes(TILE)))


def test_heights_above_the_ground_are_codes_of_eight_bits_and_empty_files_of_the_other_approach_are_passed_over(
    written,
):
    dataset = open_copy(written, height="ndsm")
    assert dataset.card.sensors["height"].unit == "0..255"
    path = written / f"1_DSM_normalisation/dsm_potsdam_{mini.padded(TILE)}_normalized_lastools.jpg"
    height = whole(dataset, TILE, "height")[0]
    np.testing.assert_array_equal(height, decode(path))
    assert np.abs(height - mini.codes(TILE)).max() <= 3


def test_a_grey_jpeg_of_three_channels_is_one(copy):
    root = copy("2_Ortho_RGB", "1_DSM_normalisation", "5_Labels_all")
    path = root / f"1_DSM_normalisation/dsm_potsdam_{mini.padded(TILE)}_normalized_lastools.jpg"
    mini.jpeg(path, np.dstack([mini.codes(TILE)] * 3))
    assert np.abs(whole(open_copy(root, height="ndsm"), TILE, "height")[0] - mini.codes(TILE)).max() <= 3
    mini.jpeg(path, mini.bands(TILE)[..., :3])
    with pytest.raises(ValueError, match=r"06_09_normalized_lastools\.jpg holds uint8"):
        whole(open_copy(root, height="ndsm"), TILE, "height")


@pytest.mark.parametrize("height", ["dsm", "ndsm"])
def test_the_missing_column_of_3_13_is_invalid(written, height):
    dataset = open_copy(written, height=height)
    valid, values = whole(dataset, "3_13", "height_valid")[0], whole(dataset, "3_13", "height")[0]
    assert valid[:, :-1].all()
    assert not valid[:, -1].any()
    assert not values[:, -1].any()
    if height == "dsm":
        np.testing.assert_array_equal(values[:, :-1], mini.heights("3_13")[:, :-1])


@pytest.mark.parametrize(("rows", "columns", "fits"), [(1, 0, True), (2, 2, True), (0, 3, False), (-1, 0, False)])
def test_only_two_pixels_of_3_13_may_be_short(copy, rows, columns, fits):
    root = copy()
    values = np.pad(mini.heights("3_13"), ((0, 1), (0, 0)), mode="edge")
    patch_tile(root, "1_DSM", "3_13", values[: mini.HEIGHT - rows, : mini.WIDTH - columns])
    if fits:
        valid = whole(open_copy(root), "3_13", "height_valid")[0]
        assert valid.sum() == (mini.HEIGHT - rows) * (mini.WIDTH - columns)
        assert valid[0, 0]
    else:
        with pytest.raises(ValueError, match=r"dsm_potsdam_03_13\.tif has .* must be aligned"):
            open_copy(root)


def test_pixels_without_a_height_are_invalid_and_zero(copy):
    root, values = copy(), mini.heights(TILE)
    values[3:5, 7:20], values[6, 6] = np.nan, np.inf
    patch_tile(root, "1_DSM", TILE, values)
    dataset = open_copy(root)
    valid = whole(dataset, TILE, "height_valid")[0]
    np.testing.assert_array_equal(valid, np.isfinite(values))
    np.testing.assert_array_equal(whole(dataset, TILE, "height")[0], np.where(valid, values, 0))


@pytest.mark.parametrize("pad", [True, False])
def test_names_with_and_without_zeros_are_of_one_tile(copy, pad):
    root = copy()
    for folder in root.iterdir():
        for path in list(folder.glob("*.tif")):
            tile = next(tile for tile in mini.TILES if {f"_{tile}", f"_{mini.padded(tile)}"} & set(_ends(path.stem)))
            other = mini.padded(tile) if pad else tile
            path.rename(path.with_name(path.name.replace(mini.padded(tile), tile).replace(f"_{tile}", f"_{other}", 1)))
    assert (root / "2_Ortho_RGB" / f"top_potsdam_{'06_09' if pad else '6_9'}_RGB.tif").is_file()
    assert (root / "1_DSM" / f"dsm_potsdam_{'06_09' if pad else '6_9'}.tif").is_file()
    dataset = open_copy(root)
    np.testing.assert_array_equal(whole(dataset, TILE, "height")[0], mini.heights(TILE))
    np.testing.assert_array_equal(whole(dataset, TILE, "label"), mini.classes(TILE))


def _ends(stem):
    numbers = stem.removeprefix("top_potsdam").removeprefix("dsm_potsdam").split("_")
    return [f"_{numbers[1]}_{numbers[2]}"]


def test_two_files_of_one_tile_are_refused(copy):
    root = copy()
    shutil.copy(root / "1_DSM/dsm_potsdam_06_09.tif", root / "1_DSM/dsm_potsdam_6_9.tif")
    with pytest.raises(ValueError, match="both fit the id '6/9'"):
        open_copy(root)


def test_files_lie_in_their_folder_in_one_within_it_or_in_the_root(copy):
    root = copy()
    (root / "2_Ortho_RGB").rename(root / "inner")
    (root / "2_Ortho_RGB").mkdir()
    (root / "inner").rename(root / "2_Ortho_RGB/2_Ortho_RGB")
    for path in (root / "5_Labels_all").iterdir():
        path.rename(root / path.name)
    (root / "5_Labels_all").rmdir()
    np.testing.assert_array_equal(whole(open_copy(root), TILE, "label"), mini.classes(TILE))
    assert open_copy(root)._files[TILE]["rgb"].parent == root / "2_Ortho_RGB/2_Ortho_RGB"


def test_labels_of_the_participants_come_first_so_that_the_photograph_of_4_12_is_not_read(copy):
    root = copy()
    patch_tile(root, "5_Labels_all", "4_12", mini.bands("4_12")[..., :3])
    with pytest.raises(ValueError, match=r"top_potsdam_4_12_label\.tif.*photograph"):
        whole(open_copy(root), "4_12", "label")
    for tile in ("4_12", "6_8", "6_9"):
        mini.tiff(root / f"5_Labels_for_participants/top_potsdam_{tile}_label.tif", mini.PALETTE[mini.classes(tile)])
    dataset = open_copy(root)
    np.testing.assert_array_equal(whole(dataset, "4_12", "label"), mini.classes("4_12"))
    np.testing.assert_array_equal(whole(dataset, "2_13", "label"), mini.classes("2_13"))


@pytest.mark.parametrize("colour", [(255, 0, 255), (254, 0, 0), (0, 128, 0), (1, 1, 1)])
def test_a_few_pixels_of_no_class_are_ignored_and_told_of(copy, colour):
    root, label = copy(), mini.PALETTE[mini.classes(TILE)]
    label[20, 30:34] = colour  # 4 of 1920 pixels
    patch_tile(root, "5_Labels_all", TILE, label)
    dataset = open_copy(root)
    with pytest.warns(DataWarning, match=rf"top_potsdam_{TILE}_label\.tif: 4 pixels \(0\.21%\).*ignored") as told:
        read = whole(dataset, TILE, "label")
    assert len(told) == 1  # once per tile
    expected = mini.classes(TILE)
    expected[20, 30:34] = 255
    np.testing.assert_array_equal(read, expected)


def test_one_pixel_of_no_class_is_ignored_in_silence(copy):
    root, label = copy(), mini.PALETTE[mini.classes(TILE)]
    label[20, 30] = 7
    patch_tile(root, "5_Labels_all", TILE, label)
    assert whole(open_copy(root), TILE, "label")[20, 30] == 255


def test_a_label_with_more_than_one_percent_of_no_class_is_refused_whichever_crop_is_read(copy):
    root, label = copy(), mini.PALETTE[mini.classes(TILE)]
    label[39, :20] = 100
    patch_tile(root, "5_Labels_all", TILE, label)
    dataset = open_copy(root)
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"top_potsdam_{TILE}_label\.tif: 20 pixels \(1\.04%\)"):
            dataset.read(f"{TILE}/r0_c32")
    assert dataset.read("6_8/r0_c32")["label"].max() < 6


def test_codes_of_colours_are_those_of_a_comparison_colour_by_colour():
    corners = np.array([(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)
    np.testing.assert_array_equal(potsdam.colour_codes(corners[None])[0], [0, 1, 2, 3, 4, 5, 6, 7])
    colours = np.random.default_rng(0).choice(np.uint8([0, 1, 127, 128, 254, 255]), (50, 50, 3))
    expected = np.full((50, 50), 5)
    for code, corner in enumerate(corners):
        expected[(colours == corner).all(axis=2)] = code
    np.testing.assert_array_equal(potsdam.colour_codes(colours), expected)


WAYS = [
    {"rowsperstrip": 7},
    {"tile": (16, 32)},
    {"compression": "zlib", "predictor": True, "tile": (16, 32)},
    {"compression": "lzw"},
    {"compression": "lzw", "predictor": True, "rowsperstrip": 7},
    {"compression": "packbits", "rowsperstrip": 1},
]


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_crops_of_every_kind_of_tiff_are_those_of_the_tile(copy, planar, byteorder):
    root = copy("4_Ortho_RGBIR", "1_DSM", "5_Labels_all")
    pixels, heights = mini.bands(TILE), mini.heights(TILE)
    stored = np.moveaxis(pixels, -1, 0) if planar == "separate" else pixels
    for way in WAYS:
        colours = {"photometric": "rgb", "planarconfig": planar, "byteorder": byteorder}
        tifffile.imwrite(root / f"4_Ortho_RGBIR/top_potsdam_{TILE}_RGBIR.tif", stored, **colours, **way)
        tifffile.imwrite(
            root / f"1_DSM/dsm_potsdam_{mini.padded(TILE)}.tif",
            heights,
            **{"photometric": "minisblack", "byteorder": byteorder},
            **way,
        )
        sample = open_copy(root, bands="irrg").read(f"{TILE}/r24_c32")
        np.testing.assert_array_equal(sample["rgb"], pixels[24:, 32:, [3, 0, 1]].transpose(2, 0, 1))
        np.testing.assert_array_equal(sample["height"][0], heights[24:, 32:])
        assert all(value.dtype.isnative for value in sample.values() if isinstance(value, np.ndarray))


def test_a_tile_is_decoded_once_for_the_crops_and_threads_that_share_it(copy, monkeypatch):
    root, calls = copy(), []
    monkeypatch.setattr(potsdam, "decode", lambda path: calls.append(path) or decode(path))
    dataset = open_copy(root)
    ids = [scene_id for scene_id in dataset.ids("train") if scene_id.startswith((f"{TILE}/", "6_8/"))]
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(dataset.read, ids))) == 18
    assert sorted(path.name for path in calls) == sorted(
        f"top_potsdam_{tile}_{kind}.tif" for tile in ("6_8", TILE) for kind in ("RGB", "label")
    )


def test_reading_changes_nothing_that_is_read_again(published):
    dataset = published(bands="rgbir", height="ndsm", truth="eroded")
    before = dataset.read(f"{TILE}/r16_c16")
    kept = {name: value.copy() for name, value in before.items() if name != "id"}
    for name in kept:
        before[name][...] = 1
    after = dataset.read(f"{TILE}/r16_c16")
    for name, value in kept.items():
        np.testing.assert_array_equal(after[name], value)


def test_missing_files_are_all_listed_before_anything_is_read(copy):
    root = copy()
    (root / "1_DSM/dsm_potsdam_03_13.tif").unlink()
    (root / "1_DSM/dsm_potsdam_06_08.tif").unlink()
    (root / LABEL).unlink()
    with pytest.raises(FileNotFoundError) as error:
        open_copy(root)
    text = str(error.value)
    assert "lacks 3 file(s) of the 5 tiles" in text
    assert "1_DSM: dsm_potsdam_*.tif, * being 6_8, 3_13." in text
    assert "5_Labels_for_participants or 5_Labels_all: top_potsdam_*_label.tif, * being 6_9" in text
    assert "2_Ortho_RGB:" not in text


def test_colours_that_are_there_in_part_are_not_completed_from_other_files(copy):
    root = copy("2_Ortho_RGB", "4_Ortho_RGBIR", "1_DSM", "5_Labels_all")
    (root / f"2_Ortho_RGB/top_potsdam_{TILE}_RGB.tif").unlink()
    with pytest.raises(FileNotFoundError, match=r"2_Ortho_RGB: top_potsdam_\*_RGB\.tif, \* being 6_9"):
        open_copy(root)


def test_a_folder_of_another_case_is_proposed(copy):
    root = copy()
    (root / "1_DSM").rename(root / "1_dsm")
    with pytest.raises(FileNotFoundError, match=r"(?s)lacks 5 .*Did you mean '1_dsm'"):
        open_copy(root)


def test_swapped_folders_are_missing_files(copy):
    root = copy("2_Ortho_RGB", "3_Ortho_IRRG", "1_DSM", "5_Labels_all")
    (root / "2_Ortho_RGB").rename(root / "swap")
    (root / "3_Ortho_IRRG").rename(root / "2_Ortho_RGB")
    (root / "swap").rename(root / "3_Ortho_IRRG")
    with pytest.raises(FileNotFoundError, match="lacks 5"):
        open_copy(root)


def test_labels_with_borders_are_not_taken_for_full_ones(copy):
    root = copy("2_Ortho_RGB", "1_DSM", "5_Labels_all_noBoundary")
    with pytest.raises(FileNotFoundError, match=r"top_potsdam_\*_label\.tif"):
        open_copy(root)


@pytest.mark.parametrize("layer", ["2_Ortho_RGB", "3_Ortho_IRRG", "4_Ortho_RGBIR", "5_Labels_all", "1_DSM"])
def test_a_file_truncated_anywhere_is_named(tmp_path, written, layer):
    whole_file = min((written / layer).glob("*.tif"))
    content, path = whole_file.read_bytes(), tmp_path / "cut.tif"
    for keep in (0, 1, 8, 100, 250, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        with pytest.raises(ValueError, match=rf"cut\.tif \({keep} bytes\) cannot be read"):
            stored_size(path)


def test_a_damaged_strip_is_named_when_it_is_read(copy):
    root = copy("3_Ortho_IRRG", "1_DSM", "5_Labels_all")
    path = root / f"3_Ortho_IRRG/top_potsdam_{TILE}_IRRG.tif"
    with tifffile.TiffFile(path) as file:
        start, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\0" * count + content[start + count :])
    dataset = open_copy(root, bands="irrg")
    with pytest.raises(ValueError, match=rf"top_potsdam_{TILE}_IRRG\.tif \(\d+ bytes\) cannot be read"):
        dataset.read(f"{TILE}/r0_c0")


def test_a_strip_that_was_never_written_is_refused(copy):
    root = copy()
    path = root / LABEL
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags["StripByteCounts"]
        tag.overwrite([0, *tag.value[1:]])
    with pytest.raises(ValueError, match=r"_label\.tif .*never written"):
        open_copy(root)


def test_a_damaged_or_empty_jpeg_is_named(copy):
    root = copy("2_Ortho_RGB", "1_DSM_normalisation", "5_Labels_all")
    path = root / f"1_DSM_normalisation/dsm_potsdam_{mini.padded(TILE)}_normalized_lastools.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(ValueError, match=path.name):
        open_copy(root, height="ndsm").read(f"{TILE}/r0_c0")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{path.name} \(0 bytes\) cannot be read"):
        open_copy(root, height="ndsm")


@pytest.mark.parametrize(
    ("folder", "pixels", "options", "message"),
    [
        ("5_Labels_all", mini.classes(TILE).astype(np.uint8), {}, r"uint8 \(40, 48\), expected uint8 \(40, 48, 3\)"),
        (
            "5_Labels_all",
            mini.PALETTE[mini.classes(TILE)].astype(np.uint16),
            {},
            r"uint16 \(40, 48, 3\), expected uint8",
        ),
        ("1_DSM", (100 * mini.heights(TILE)).astype(np.uint16), {}, "uint16 .*expected kind 'float'"),
        ("2_Ortho_RGB", mini.bands(TILE), {}, r"uint8 \(40, 48, 4\), expected uint8 \(40, 48, 3\)"),
        (
            "4_Ortho_RGBIR",
            mini.bands(TILE)[..., :3],
            {"bands": "rgbir"},
            r"uint8 \(40, 48, 3\), expected uint8 \(40, 48, 4\)",
        ),
    ],
)
def test_a_file_of_another_type_is_refused(copy, folder, pixels, options, message):
    root = copy("2_Ortho_RGB", "1_DSM", "5_Labels_all", "4_Ortho_RGBIR")
    path = patch_tile(root, folder, TILE, pixels)
    with pytest.raises(ValueError, match=rf"{path.name} holds {message}"):
        open_copy(root, **options).read(f"{TILE}/r0_c0")


@pytest.mark.parametrize("folder", ["1_DSM", "5_Labels_all"])
@pytest.mark.parametrize("change", ["transposed", "short"])
def test_a_file_of_another_size_than_its_tile_is_refused(copy, folder, change):
    root = copy()
    pixels = mini.heights(TILE) if folder == "1_DSM" else mini.PALETTE[mini.classes(TILE)]
    pixels = {"transposed": np.swapaxes(pixels, 0, 1), "short": pixels[:, :-1]}[change]
    path = patch_tile(root, folder, TILE, np.ascontiguousarray(pixels))
    with pytest.raises(ValueError, match=rf"{path.name} has .*2_Ortho_RGB.*aligned"):
        open_copy(root)


def test_a_crop_larger_than_a_tile_is_refused(published):
    with pytest.raises(ValueError, match=r"_RGB\.tif has 48x40 .* tile_px = 41"):
        published(tile_px=41)
    assert published(tile_px=40).ids("test")[:2] == ["2_13/r0_c0", "2_13/r0_c8"]


def test_tiles_of_another_size_than_published_are_told_of(written, monkeypatch):
    monkeypatch.setattr(potsdam, "TILE_SIZE", (6000, 6000))
    with pytest.warns(DataWarning, match="38 tile.* than 6000x6000, which is published: 2_10 48x40"):
        open_copy(written)


def test_heights_that_are_none_on_earth_are_refused(copy):
    root, values = copy(), mini.heights(TILE)
    values[5, 5] = -32767  # a fill value
    patch_tile(root, "1_DSM", TILE, values)
    with pytest.raises(ValueError, match=r"dsm_potsdam_06_09\.tif holds -32767\.0 to"):
        open_copy(root).read(f"{TILE}/r0_c0")


def test_without_tifffile_the_extra_is_named(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match=r"crodino\[potsdam\]"):
        open_copy(written)


def test_the_fingerprint_follows_files_and_options_but_not_the_place_of_the_copy(copy, published):
    root = copy()
    before = open_copy(root).fingerprint()
    assert published().fingerprint() == before
    options = [
        {"order": "clutter-first"},
        {"clutter": "ignore"},
        {"split": "geoseg"},
        {"tile_px": 32},
        {"stride_px": 8},
    ]
    options += [{"bands": "irrg"}, {"bands": "rgbir"}, {"height": "ndsm"}, {"truth": "eroded"}]
    prints = {published(**option).fingerprint() for option in options}
    assert len(prints | {before}) == len(options) + 1
    patch_tile(root, "1_DSM", TILE, mini.heights(TILE) + 1)
    assert open_copy(root).fingerprint() != before


def test_the_card_says_what_heights_are_and_how_to_cite(published):
    card = published().card
    assert card.sensors["height"].unit == "m"
    assert "above the datum" in card.notes
    assert "Rottensteiner" in card.citation
    assert card.licensed
