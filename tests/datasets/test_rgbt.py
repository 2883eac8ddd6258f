"""MFNet, PST900 and KP: thermal in a fourth channel, with holes and in 16 bits; splits that must not leak; copies."""

import itertools
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from miniatures import kp, mfnet, pst900
from PIL import Image

from crodino_lib.config import DataConfig
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.sample import check_sample
from crodino_lib.data.scene_cache import load_scenes, resize_sample
from crodino_lib.datasets.rgbt import MFNetOptions, Pst900Options, open_kp, open_mfnet, open_pst900

pytestmark = pytest.mark.filterwarnings("ignore::crodino_lib.data.layouts.DataWarning")
OPENERS = {"mfnet": open_mfnet, "pst900": open_pst900, "kp": open_kp}
WRITERS = {"mfnet": mfnet.write, "pst900": pst900.write, "kp": kp.write}
MFNET, PST900, KP = "00002D", pst900.TEST[0], "set06/V000/I00050"


def open_copy(name, root, **options):
    return OPENERS[name](DataConfig(dataset=name, root=str(root), options=options))


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(array)).save(path)
    return path


def splits(dataset) -> dict[str, list[str]]:
    return {split: dataset.ids(split) for split in dataset.card.splits}


# -- what is read


@pytest.mark.parametrize("layout", ["original", "CMX", "Sigma", "SemanticRT", "CMNeXt"])
def test_every_layout_of_mfnet_gives_colour_thermal_and_label_as_stored(tmp_path, layout):
    dataset = open_copy("mfnet", mfnet.write(tmp_path / "copy/deep", layout).parent)  # found one folder deeper
    assert splits(dataset) == mfnet.LISTS
    for stem in (mfnet.TRAIN[0], mfnet.VAL[0], mfnet.TEST[0]):
        sample, (picture, label) = dataset.read(stem), mfnet.scene(stem)
        check_sample(sample, dataset.card)
        if layout == "CMNeXt":  # JPEG
            stored = [np.asarray(Image.open(tmp_path / f"copy/deep/{name}/{stem}.jpg")) for name in ("rgb", "ther")]
            assert np.abs(stored[1][..., 0] - picture[..., 3].astype(int)).mean() < 12
            picture = np.dstack([stored[0], stored[1][..., 0]])
        np.testing.assert_array_equal(sample["rgb"], picture[..., :3].transpose(2, 0, 1))
        np.testing.assert_array_equal(sample["thermal"][0], picture[..., 3])
        np.testing.assert_array_equal(sample["label"], label)
        assert sample["thermal_valid"].all()


@pytest.mark.parametrize("layout", ["published", "flat", "resized"])
@pytest.mark.parametrize("options", [{}, {"thermal": "raw", "depth": True}])
def test_every_layout_of_pst900_gives_16_bits_and_holes_as_stored(tmp_path, layout, options):
    dataset = open_copy("pst900", pst900.write(tmp_path / "copy", layout), **options)
    sample, stored = dataset.read(PST900), pst900.PICTURES
    check_sample(sample, dataset.card)
    assert (dataset.card.native_size, dataset.ids("test")) == ((36, 20), sorted(pst900.TEST))
    np.testing.assert_array_equal(sample["rgb"], stored["rgb"].transpose(2, 0, 1))
    np.testing.assert_array_equal(sample["label"], stored["labels"])
    thermal = stored["thermal_raw" if options else "thermal"]
    np.testing.assert_array_equal(sample["thermal"][0], thermal.astype(np.float32))
    np.testing.assert_array_equal(sample["thermal_valid"][0], thermal != 0)
    assert not sample["thermal_valid"].all()
    assert set(dataset.card.sensors) == {"rgb", "thermal"} | ({"depth"} if options else set())
    if options:
        assert thermal.max() > 60000
        np.testing.assert_array_equal(np.rint(sample["depth"][0] * 2560), stored["depth"])
        np.testing.assert_array_equal(sample["depth_valid"][0], stored["depth"] != 0)


@pytest.mark.parametrize("layout", ["KAIST", "MS-UDA"])
def test_both_trees_of_kp_give_the_same_scenes(tmp_path, layout):
    dataset = open_copy("kp", kp.write(tmp_path / "copy/KPdataset", layout).parent)
    assert sorted(itertools.chain(*(dataset.ids(split) for split in ("train", "val", "test")))) == kp.FEW
    for scene_id in kp.FEW:  # pictures without a label, in either tree, are not scenes
        sample, (rgb, thermal, label) = dataset.read(scene_id), kp.scene(scene_id)
        check_sample(sample, dataset.card)
        loss = 0 if layout == "MS-UDA" else 12  # JPEG
        assert np.abs(sample["rgb"].astype(int) - rgb.transpose(2, 0, 1)).max() <= 3 * loss
        assert np.abs(sample["thermal"][0] - thermal).max() <= loss
        np.testing.assert_array_equal(sample["label"], np.where(label >= 19, 255, label))
        assert sample["thermal_valid"].all()


def test_counts_of_sixteen_bits_are_cached_exactly(tmp_path):
    root = pst900.write(tmp_path)
    save(root / f"test/thermal_raw/{PST900}.png", np.full((20, 36), 65535, np.uint16))
    config = DataConfig(dataset="pst900", root=str(root), size="32x32")
    scenes = load_scenes(open_copy("pst900", root, thermal="raw"), "test", config, ("rgb", "thermal"))
    assert (scenes.images["thermal"][scenes.ids.index(PST900)] == 65535).all()


def test_thermal_jpegs_of_kp_with_three_equal_channels_or_one_lose_nothing(tmp_path):
    root = kp.write(tmp_path)
    dataset, path = open_copy("kp", root), root / "images/set06/V000/lwir/I00050.jpg"
    for channels in (3, 1):
        Image.fromarray(kp.scene(KP)[1][..., None].repeat(channels, axis=2).squeeze()).save(path, quality=30)
        stored = np.asarray(Image.open(path))
        np.testing.assert_array_equal(dataset.read(KP)["thermal"][0], stored.reshape(32, 40, -1).mean(axis=2))


def test_what_the_thermal_camera_saw_never_changes_the_colours_of_a_resized_scene(tmp_path):
    root, resized = mfnet.write(tmp_path), {}
    dataset, picture = open_copy("mfnet", root), mfnet.scene(MFNET)[0]
    for value in (0, 3, 255):
        picture[..., 3] = value
        save(root / f"images/{MFNET}.png", picture)
        resized[value] = resize_sample(dataset.read(MFNET), (32, 32))
        assert (resized[value]["thermal"] == value).all()
    np.testing.assert_array_equal(resized[0]["rgb"], resized[255]["rgb"])
    np.testing.assert_array_equal(resized[3]["rgb"], resized[255]["rgb"])
    assert resized[0]["rgb"].min() > 0
    picture[..., 3] = 0  # the trap is there: resized as it is opened, the colours are gone
    assert not np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR)).any()


def test_labels_hold_no_new_id_after_resizing(tmp_path):
    root, label = mfnet.write(tmp_path), np.zeros((36, 48), np.uint8)
    label[::2, 5:] = 8
    save(root / f"labels/{MFNET}.png", label)
    assert set(np.unique(resize_sample(open_copy("mfnet", root).read(MFNET), (32, 32))["label"])) == {0, 8}
    assert 4 in np.asarray(Image.fromarray(label).resize((32, 32)))  # as the filter that is the default would make


@pytest.mark.parametrize(
    ("name", "size", "first", "palette"),
    [
        ("mfnet", (48, 36), "unlabelled", ["#000000", "#400080", "#404000", "#0080c0", "#0000c0", "#808000"]),
        ("pst900", (36, 20), "background", ["#000000", "#ff0000", "#00ff00", "#0000ff", "#ffffff"]),
        ("kp", (40, 32), "road", ["#804080", "#f423e8", "#464646", "#66669c", "#be9999", "#999999", "#faaa1e"]),
    ],
)
def test_the_card_has_the_published_classes_and_colours(tmp_path, name, size, first, palette):
    card = open_copy(name, WRITERS[name](tmp_path)).card
    assert (card.native_size, card.classes[0], len(card.classes)) == (
        size,
        first,
        {"mfnet": 9, "pst900": 5, "kp": 19}[name],
    )
    assert card.palette[: len(palette)] == tuple(tuple(bytes.fromhex(colour[1:])) for colour in palette)
    assert len(set(card.palette)) == len(card.classes)
    assert card.sensors["thermal"].unit == "0..255"
    assert card.licensed


def test_with_eight_classes_of_mfnet_unlabelled_is_ignored_and_the_others_move_down(tmp_path):
    nine, eight = (open_copy("mfnet", mfnet.write(tmp_path), classes=count) for count in (9, 8))
    assert (eight.card.classes, eight.card.palette) == (nine.card.classes[1:], nine.card.palette[1:])
    assert "8 classes, split published" in eight.card.notes
    label = nine.read(MFNET)["label"]
    assert 0 in label
    np.testing.assert_array_equal(eight.read(MFNET)["label"], np.where(label == 0, 255, label - 1))


@pytest.mark.parametrize(
    ("name", "file", "scene", "stored"),
    [
        ("mfnet", f"labels/{MFNET}.png", MFNET, mfnet.scene(MFNET)[1]),
        ("pst900", f"test/labels/{PST900}.png", PST900, pst900.PICTURES["labels"]),
    ],
)
def test_labels_with_a_colour_table_keep_their_ids_and_the_palette_draws_them(tmp_path, name, file, scene, stored):
    root = WRITERS[name](tmp_path)
    dataset, picture = open_copy(name, root), Image.open(root / file).copy()
    picture.putpalette([value for colour in dataset.card.palette for value in colour])
    picture.save(root / file)
    label = dataset.read(scene)["label"]
    np.testing.assert_array_equal(label, stored)
    drawn = np.asarray(Image.open(root / file).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(dataset.card.palette)[label], drawn)


def test_void_and_all_ids_above_are_ignored_in_kp_and_strange_ones_are_told(tmp_path):
    root = kp.write(tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        open_copy("kp", root)
    assert not [warning for warning in told if "holds the ids" in str(warning.message)]
    label = np.tile(np.arange(40, dtype=np.uint8), (32, 1))
    label[:, 30:] = 255
    save(root / "labels/set00_V000_I00050.png", label)
    with pytest.warns(DataWarning, match=r"set00_V000_I00050\.png holds the ids \[20, 21, 22, 23, 24, 25, 26, 27\]"):
        dataset = open_copy("kp", root)
    assert dataset.read(kp.FEW[0])["label"][0].tolist() == [*range(19), *[255] * 21]


# -- splits


def link_all(root: Path, folders: tuple[str, ...], stems: list[str], ext: str) -> None:
    """Make every stem a file of every folder, as links to the first."""
    for folder in folders:
        for stem in stems[1:]:
            os.link(root / folder / f"{stems[0]}{ext}", root / folder / f"{stem}{ext}")


def test_the_published_lists_of_mfnet_open_without_a_warning_in_both_splits(tmp_path):
    stems = [f"{9 * i // 8:05d}{'DN'[i % 13 > 6]}" for i in range(1, 1570)]
    order = np.random.default_rng(0).permutation(stems).tolist()
    lists = {"train": order[:784], "val": order[784:1176], "test": order[1176:]}
    root = mfnet.write(tmp_path / "MFNet", lists={"first": order[:1]})
    link_all(root, ("images", "labels"), order, ".png")
    for name, part in lists.items():
        (root / f"{name}.txt").write_text("\n".join(part))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        published, both = open_copy("mfnet", root), open_copy("mfnet", root, split="trainval")
    assert {name: published.ids(name) for name in lists} == lists
    assert both.ids("test") == lists["test"]
    assert sorted(both.ids("train") + both.ids("val")) == sorted(lists["train"] + lists["val"])
    assert 70 <= len(both.ids("val")) <= 142
    assert not set(both.ids("val")) <= set(lists["val"])


def test_the_sets_of_kaist_give_the_published_splits_without_a_warning(tmp_path):
    root, few = kp.write(tmp_path / "few"), {scene_id[:5]: scene_id for scene_id in kp.FEW}
    for scene_id in kp.IDS:  # every published scene, as a link to the one of its set
        for form in ("images/{}/{}/visible/{}.jpg", "images/{}/{}/lwir/{}.jpg", "labels/{}_{}_{}.png"):
            source, target = (root / form.format(*i.split("/")) for i in (few[scene_id[:5]], scene_id))
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.hardlink_to(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = open_copy("kp", root)
    ids = splits(dataset)
    assert {split: len(some) for split, some in ids.items()} == {
        "train": 499, "val": 140, "test": 311, "test_day": 178, "test_night": 133,
    }  # fmt: skip
    assert sorted(ids["test_day"] + ids["test_night"]) == ids["test"]
    assert sorted(ids["train"] + ids["val"] + ids["test"]) == sorted(kp.IDS)
    assert {scene_id[:5] for scene_id in ids["val"]} == {"set06", "set10"}


def test_test_of_pst900_is_the_folder_test_and_val_is_whole_recordings_of_train(tmp_path):
    def bags(ids):
        return {scene_id.split("_rect")[0] for scene_id in ids}

    ids = splits(open_copy("pst900", pst900.write(tmp_path)))
    assert ids["test"] == sorted(pst900.TEST)
    assert sorted(ids["train"] + ids["val"]) == sorted(pst900.TRAIN)
    assert len(ids["val"]) == 2
    assert not bags(ids["train"]) & bags(ids["val"])
    assert bags(ids["train"] + ids["val"]) == set(pst900.BAGS)


def test_lists_may_have_carriage_returns_a_mark_folders_and_any_order(tmp_path):
    root = mfnet.write(tmp_path / "mfnet")
    for name, stems in mfnet.LISTS.items():
        (root / f"{name}.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(stems).encode() + b"\r\n")
    assert splits(open_copy("mfnet", root)) == mfnet.LISTS
    root = pst900.write(tmp_path / "pst900", "flat")
    expected = open_copy("pst900", root).ids("train")
    (root / "train.txt").write_text("\r\n".join(f"rgb/{name}.png" for name in pst900.TRAIN[::-1]))
    assert open_copy("pst900", root).ids("train") == expected
    root = kp.write(tmp_path / "kp")  # lists of KP are not read, so that a wrong one cannot matter
    before = splits(open_copy("kp", root))
    (root / "train.txt").write_bytes(b"set07_V000_I00050.png\r\n")
    assert splits(open_copy("kp", root)) == before


def test_day_and_night_of_mfnet_are_by_list_or_by_the_letter_of_the_stem(tmp_path):
    root = mfnet.write(tmp_path)
    (root / "test_day.txt").write_text("00151D\n00170D\n00150D\n")
    (root / "test_night.txt").unlink()
    dataset = open_copy("mfnet", root)
    assert dataset.ids("test_day") == ["00151D", "00170D", "00150D"]
    assert dataset.ids("test_night") == mfnet.LISTS["test_night"]
    (root / "test_day.txt").write_text("00150D")
    with pytest.warns(DataWarning, match="neither test_day nor test_night"):
        open_copy("mfnet", root)
    for stem in ("00160N", "00001D"):
        (root / "test_day.txt").write_text(stem)
        with pytest.raises(ValueError, match=rf"test_day\.txt names 1 scene.*{stem}"):
            open_copy("mfnet", root)


def test_a_test_set_by_day_only_has_no_split_for_the_night(tmp_path):
    day = [scene_id for scene_id in kp.FEW if scene_id[:5] not in ("set09", "set11")]
    lists = {"train": mfnet.TRAIN, "val": mfnet.VAL, "test": ["00150D"]}
    for dataset in (
        open_copy("kp", kp.write(tmp_path / "kp", ids=day)),
        open_copy("mfnet", mfnet.write(tmp_path / "mfnet", lists=lists)),
    ):
        assert dataset.card.splits == ("train", "val", "test", "test_day")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mfnet", {}, r"train 11 \(published 784\), val 3 \(published 392\), test 5 \(published 393\)"),
        ("mfnet", {"split": "trainval"}, r"train 14 \(published 1176\), test 5 \(published 393\)"),
        ("pst900", {}, r"train 16 \(published 597\), test 4 \(published 288\)"),
        ("kp", {}, r"KP day-night has other numbers of scenes: train 6 \(published 499\), val 2 \("),
    ],
)
def test_other_numbers_of_scenes_are_told(tmp_path, name, options, message):
    with pytest.warns(DataWarning, match=message):
        open_copy(name, WRITERS[name](tmp_path), **options)


def test_val_of_mfnet_is_held_out_where_it_has_no_list_or_is_trained_on(tmp_path):
    lists = {"train2": mfnet.TRAIN + mfnet.VAL, "test": mfnet.TEST}  # Sigma's
    dataset = open_copy("mfnet", mfnet.write(tmp_path / "Sigma", "Sigma", lists), split="trainval")
    assert dataset.ids("test") == mfnet.TEST
    with pytest.warns(DataWarning, match=r"has no val\.txt; val is held out of train\.txt"):
        other = open_copy("mfnet", mfnet.write(tmp_path / "b", lists={"train": lists["train2"], "test": mfnet.TEST}))
    for some in (dataset, other):
        assert sorted(some.ids("train") + some.ids("val")) == sorted(lists["train2"])
        assert some.ids("val")


def test_mirrored_pictures_are_trained_on_not_counted_and_named_where_they_are_missing(tmp_path):
    flips = [f"{stem}_flip" for stem in mfnet.TRAIN]
    root = mfnet.write(tmp_path, lists=mfnet.LISTS | {"train": mfnet.TRAIN + flips})
    with pytest.warns(DataWarning, match=r"train 11 \(published 784\)"):
        dataset = open_copy("mfnet", root)
    assert dataset.ids("train") == mfnet.TRAIN + flips
    np.testing.assert_array_equal(dataset.read("00001D_flip")["rgb"], dataset.read("00001D")["rgb"][..., ::-1])
    (root / "images/00001D_flip.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"file\(s\).*rgb images/00001D_flip\.png"):
        open_copy("mfnet", root)


@pytest.mark.parametrize("split", ["published", "trainval"])
def test_no_mirror_image_of_what_is_selected_or_tested_on_is_trained_on(tmp_path, split):
    flips = [f"{stem}_flip" for stem in mfnet.TRAIN + mfnet.VAL + mfnet.TEST[:1]]
    root = mfnet.write(tmp_path, lists=mfnet.LISTS | {"train": mfnet.TRAIN + flips})
    with pytest.warns(DataWarning, match=r"mirrored pictures of val or test are left out of train: .*00150D_flip"):
        dataset = open_copy("mfnet", root, split=split)
    trained = {stem.removesuffix("_flip") for stem in dataset.ids("train")}
    assert not trained & {*dataset.ids("val"), *dataset.ids("test")}
    assert any(stem.endswith("_flip") for stem in dataset.ids("train"))


# -- copies that are not right

OTHER = {  # dataset, layout, options, file, its pixels, scene, message
    "mfnet without thermal": (
        *("mfnet", "original", {}, f"images/{MFNET}.png", mfnet.scene(MFNET)[0][..., :3], MFNET),
        r"images/00002D\.png holds uint8 .*expected at least 4",
    ),
    "thermal of another size": (
        *("mfnet", "CMX", {}, f"Thermal/{MFNET}.png", mfnet.scene(MFNET)[0][::2, ::2, 3], MFNET),
        r"Thermal/00002D\.png has 24x18 .*RGB/00002D\.png has 48x36",
    ),
    "thermal of 16 bits": (
        *("mfnet", "Sigma", {}, f"Modal/{MFNET}.png", np.zeros((36, 48), np.uint16), MFNET),
        r"Modal/00002D\.png.*expected kind 'u8'",
    ),
    "thermal in false colours": (
        *("mfnet", "Sigma", {}, f"Modal/{MFNET}.png", mfnet.scene(MFNET)[0][..., :3], MFNET),
        r"Modal/00002D\.png.*expected kind 'u8'",
    ),
    "grey as rgb": (
        *("mfnet", "CMX", {}, f"RGB/{MFNET}.png", mfnet.scene(MFNET)[0][..., 3], MFNET),
        r"RGB/00002D\.png.*expected kind 'rgb'",
    ),
    "mfnet with an ignored id": (
        *("mfnet", "original", {}, f"labels/{MFNET}.png", np.full((36, 48), 255, np.uint8), MFNET),
        r"holds the ids \[255\], which are no",
    ),
    "mfnet with another id": (
        *("mfnet", "original", {"classes": 8}, f"labels/{MFNET}.png", np.full((36, 48), 9, np.uint8), MFNET),
        r"holds the ids \[9\], which are no",
    ),
    "labels in colours": (
        *("mfnet", "original", {}, f"labels/{MFNET}.png", mfnet.scene(MFNET)[0][..., :3], MFNET),
        r"labels/00002D\.png holds uint8 of shape .*3\), expected one",
    ),
    "pst900 agc in 16 bits": (
        *("pst900", "published", {}, f"test/thermal/{PST900}.png", pst900.PICTURES["thermal_raw"], PST900),
        "kind 'u8'",
    ),
    "pst900 raw in 8 bits": (
        "pst900",
        "published",
        {"thermal": "raw"},
        f"test/thermal_raw/{PST900}.png",
        pst900.PICTURES["thermal"],
        PST900,
        "kind 'u16'",
    ),
    "pst900 depth in 8 bits": (
        *("pst900", "published", {"depth": True}, f"test/depth/{PST900}.png", pst900.PICTURES["thermal"], PST900),
        "kind 'u16'",
    ),
    "pst900 turned": (
        *("pst900", "published", {}, f"test/thermal/{PST900}.png", pst900.PICTURES["thermal"].T, PST900),
        "has 20x36 pixels",
    ),
    "pst900 with an ignored id": (
        *("pst900", "flat", {}, f"labels/{PST900}.png", np.full((20, 36), 255, np.uint8), PST900),
        r"holds the ids \[255\], which are no",
    ),
    "kp in 16 bits": (
        *("kp", "MS-UDA", {}, "pseudo_KP/val_day/set00_V000_lwir_I00050.png", np.zeros((32, 40), np.uint16), kp.FEW[0]),
        r"lwir_I00050\.png holds uint16",
    ),
    "kp with an id above 8 bits": (
        *("kp", "KAIST", {}, "labels/set06_V000_I00050.png", np.full((32, 40), 256, np.uint16), KP),
        r"set06_V000_I00050\.png holds the ids \[256\], which are no",
    ),
}


@pytest.mark.parametrize("kind", OTHER)
def test_a_file_of_another_kind_size_or_with_other_ids_is_named(tmp_path, kind):
    name, layout, options, file, pixels, scene, message = OTHER[kind]
    root = WRITERS[name](tmp_path, layout)
    path = save(root / file, pixels)
    with pytest.raises(ValueError, match=message) as error:
        open_copy(name, root, **options).read(scene)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "one", "other", "message"),
    [
        ("pst900", "test/thermal", "test/labels", r"holds the ids|expected kind|which are no"),
        ("kp", "images/set06/V000/visible", "images/set06/V000/lwir", r"lwir/I00050\.jpg holds uint8 .*kind 'u8'"),
    ],
)
def test_folders_that_changed_places_are_refused(tmp_path, name, one, other, message):
    root = WRITERS[name](tmp_path)
    (root / one).rename(root / "swap")
    (root / other).rename(root / one)
    (root / "swap").rename(root / other)
    with pytest.raises(ValueError, match=message):
        open_copy(name, root).read({"pst900": PST900, "kp": KP}[name])


@pytest.mark.parametrize(
    ("name", "folder", "other", "message"),
    [
        ("mfnet", "images", "Images", r"not MFNet: it holds Images/.*expected the folders .*images"),
        ("kp", "images", "Images", r"not KP day-night: it holds Images/.*expected the folders .*images"),
        ("pst900", "test/labels", "test/Labels", "test/labels does not exist.*Did you mean 'Labels'"),
        ("pst900", "test/rgb", "elsewhere", "test/rgb does not exist"),
        ("mfnet", "test.txt", "Test.txt", r"test\.txt does not exist.*Did you mean '"),
    ],
)
def test_a_folder_or_list_under_another_name_is_told(tmp_path, name, folder, other, message):
    root = WRITERS[name](tmp_path)
    (root / folder).rename(root / other)
    with pytest.raises(FileNotFoundError, match=message):
        open_copy(name, root)


def test_an_option_of_pst900_needs_its_folder(tmp_path):
    root = pst900.write(tmp_path)
    shutil.rmtree(root / "train/thermal_raw")
    open_copy("pst900", root)
    with pytest.raises(FileNotFoundError, match="train/thermal_raw does not exist"):
        open_copy("pst900", root, thermal="raw")


@pytest.mark.filterwarnings("ignore:.*neither test_day nor test_night")
@pytest.mark.parametrize("split", ["published", "trainval"])
@pytest.mark.parametrize(("name", "stem"), [("val", "00001D"), ("test", "00131D")])
def test_lists_of_mfnet_that_share_a_scene_are_refused(tmp_path, split, name, stem):
    root = mfnet.write(tmp_path)
    with (root / f"{name}.txt").open("a") as file:
        file.write(stem)
    with pytest.raises(ValueError, match=rf"1 scene.* in both .*{stem}"):
        open_copy("mfnet", root, split=split)


def test_a_frame_of_pst900_in_train_and_in_test_is_refused(tmp_path):
    root = pst900.write(tmp_path / "published")
    for folder in pst900.PICTURES:
        shutil.copy(root / f"test/{folder}/{PST900}.png", root / f"train/{folder}/{PST900}.png")
    with pytest.raises(ValueError, match=f"both fit the id '{PST900}'"):
        open_copy("pst900", root)
    root = pst900.write(tmp_path / "flat", "flat")
    (root / "train.txt").write_text("\n".join((*pst900.TRAIN, *pst900.TEST)))
    with pytest.raises(ValueError, match=r"are in both (train|val) and test"):
        open_copy("pst900", root)


def test_recordings_too_long_to_hold_out_and_empty_folders_are_refused(tmp_path):
    root = pst900.write(tmp_path)
    for path in root.glob("train/*/*"):
        if not path.name.startswith("31_bag1a"):
            path.unlink()
    with pytest.raises(ValueError, match=r"no list (for|names the scenes of) val"):
        open_copy("pst900", root)
    for path in root.glob("test/*/*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"test holds no picture: expected .png files in rgb, labels, thermal"):
        open_copy("pst900", root)


def test_labels_of_kp_decide_what_is_a_scene_and_pictures_or_lists_without_one_are_told(tmp_path):
    root = kp.write(tmp_path / "kaist")
    (root / "train.txt").write_text("set00_V000_I77777.png\r\n")
    path = root / "labels/set01_V000_I00050.png"
    path.rename(path.with_name("set00_V000_visible_I99999.png"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert "set01/V000/I00050" not in open_copy("kp", root).ids("train")
    messages = "\n".join(str(warning.message) for warning in told)
    assert "1 label file(s) have other names than labels and are not read" in messages
    assert "visible_I99999.png" in messages
    assert "1 scene(s) of pictures or lists have no label: set00/V000/I77777" in messages
    root = kp.write(tmp_path / "ms-uda", "MS-UDA")
    (root / "labels/val_day/set01_V000_I00050.png").unlink()
    with pytest.warns(DataWarning, match=r"1 scene\(s\) of pictures or lists have no label: set01/V000/I00050$"):
        open_copy("kp", root)
    shutil.copy(root / "labels/val_day/set00_V000_I00050.png", root / "labels/val_night/set00_V000_I00050.png")
    with pytest.raises(ValueError, match=r"both fit the id 'set00/V000/I00050'"):
        open_copy("kp", root)


def test_a_copy_of_kp_without_labels_is_told(tmp_path):
    few = [scene_id for scene_id in kp.FEW if scene_id[:5] not in ("set06", "set10")]
    root = kp.write(tmp_path, ids=few)
    with pytest.raises(ValueError, match="the split val has no scene"):
        open_copy("kp", root)
    shutil.rmtree(root / "labels")
    (root / "labels").mkdir()
    with pytest.raises(ValueError, match=r"labels holds no label that is named like set00_V000_I00050\.png"):
        open_copy("kp", root)


def test_options_are_checked_and_change_the_fingerprint(tmp_path):
    for options, wrong, hint in (
        (MFNetOptions, {"classes": 7}, "classes = 7"),
        (MFNetOptions, {"split": "train_val"}, "Did you mean 'trainval'"),
        (Pst900Options, {"thermal": "8bit"}, "thermal"),
        (Pst900Options, {"depth": 1}, "depth"),
    ):
        with pytest.raises(ValueError, match=hint):
            options.parse(wrong)
    roots = {name: WRITERS[name](tmp_path / name) for name in ("mfnet", "pst900")}
    chosen = [("mfnet", {}), ("mfnet", {"classes": 8}), ("mfnet", {"split": "trainval"})]
    chosen += [("pst900", {}), ("pst900", {"thermal": "raw"}), ("pst900", {"depth": True})]
    assert len({open_copy(name, roots[name], **options).fingerprint() for name, options in chosen}) == len(chosen)
