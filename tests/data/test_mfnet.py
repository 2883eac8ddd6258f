import os
import shutil
import warnings

import numpy as np
import pytest
from miniatures.mfnet import LISTS, TEST, TRAIN, VAL, scene, write
from PIL import Image

from crodino_lib.config import DataConfig
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.sample import check_sample
from crodino_lib.data.scene_cache import resize_sample
from crodino_lib.datasets import mfnet
from crodino_lib.datasets.mfnet import CLASSES, MFNetOptions, open_mfnet

pytestmark = pytest.mark.filterwarnings("ignore:this copy of MFNet has other numbers")


def load_npz(root, **options):
    return open_mfnet(DataConfig(dataset="mfnet", root=str(root), options=options))


@pytest.fixture
def copy(tmp_path):
    return write(tmp_path / "MFNet")


# -- what is read


@pytest.mark.parametrize("layout", ["original", "CMX", "Sigma", "SemanticRT"])
def test_every_layout_gives_colour_thermal_and_label_as_stored(tmp_path, layout):
    dataset = load_npz(write(tmp_path, layout))
    for stem in TRAIN[:2] + VAL[:1] + TEST[:1]:
        sample = dataset.read(stem)
        check_sample(sample, dataset.card)
        picture, label = scene(stem)
        np.testing.assert_array_equal(sample["rgb"], picture[..., :3].transpose(2, 0, 1))
        np.testing.assert_array_equal(sample["thermal"][0], picture[..., 3])
        np.testing.assert_array_equal(sample["label"], label)
        assert sample["thermal_valid"].all()


def test_the_layout_of_cmnext_is_read_though_its_pictures_are_jpeg(tmp_path):
    dataset = load_npz(write(tmp_path, "CMNeXt"))
    sample, (picture, label) = dataset.read("00010D"), scene("00010D")
    check_sample(sample, dataset.card)
    np.testing.assert_array_equal(sample["rgb"], np.asarray(Image.open(tmp_path / "rgb/00010D.jpg")).transpose(2, 0, 1))
    np.testing.assert_array_equal(sample["thermal"][0], np.asarray(Image.open(tmp_path / "ther/00010D.jpg"))[..., 0])
    assert np.abs(sample["thermal"][0] - picture[..., 3]).mean() < 12
    np.testing.assert_array_equal(sample["label"], label)


def test_the_copy_is_found_one_folder_deeper(tmp_path):
    write(tmp_path / "copy/ir_seg_dataset")
    assert load_npz(tmp_path / "copy").ids("val") == VAL


def test_the_card_says_which_protocol_was_chosen(copy):
    card = load_npz(copy).card
    assert card.classes == tuple(CLASSES)
    assert card.palette[:3] == ((0, 0, 0), (64, 0, 128), (64, 64, 0))
    assert card.palette[3:] == ((0, 128, 192), (0, 0, 192), (128, 128, 0), (64, 64, 128), (192, 128, 128), (192, 64, 0))
    assert card.native_size == (48, 36)
    assert card.splits == ("train", "val", "test", "test_day", "test_night")
    assert card.sensors["thermal"].unit == "0..255"
    assert (card.sensors["thermal"].mean, card.sensors["thermal"].std) == ((127.0,), (60.0,))
    assert "9 classes, split published" in card.notes
    assert "8 classes, split trainval" in load_npz(copy, classes=8, split="trainval").card.notes


def test_with_eight_classes_unlabelled_is_ignored_and_the_others_move_down(copy):
    nine, eight = load_npz(copy), load_npz(copy, classes=8)
    assert eight.card.classes == tuple(CLASSES)[1:]
    assert eight.card.palette == nine.card.palette[1:]
    for stem in TRAIN[:3]:
        label = nine.read(stem)["label"]
        assert 0 in label
        np.testing.assert_array_equal(eight.read(stem)["label"], np.where(label == 0, 255, label - 1))


def test_labels_with_a_colour_table_keep_their_ids_and_the_palette_draws_them(copy):
    dataset = load_npz(copy)
    picture = Image.open(copy / "labels/00001D.png").copy()
    picture.putpalette([value for colour in dataset.card.palette for value in colour])
    picture.save(copy / "labels/00001D.png")
    label = dataset.read("00001D")["label"]
    np.testing.assert_array_equal(label, scene("00001D")[1])
    drawn = np.asarray(Image.open(copy / "labels/00001D.png").convert("RGB"))
    np.testing.assert_array_equal(np.asarray(dataset.card.palette)[label], drawn)


# -- the fourth channel is thermal, not opacity


def test_what_the_thermal_camera_saw_never_changes_the_colours_of_a_resized_scene(copy):
    dataset, resized = load_npz(copy), {}
    picture = scene("00001D")[0]
    for value in (0, 3, 255):
        picture[..., 3] = value
        Image.fromarray(picture).save(copy / "images/00001D.png")
        resized[value] = resize_sample(dataset.read("00001D"), (32, 32))
        assert (resized[value]["thermal"] == value).all()
    np.testing.assert_array_equal(resized[0]["rgb"], resized[255]["rgb"])
    np.testing.assert_array_equal(resized[3]["rgb"], resized[255]["rgb"])
    assert resized[0]["rgb"].min() > 0
    picture[..., 3] = 0  # the trap is there: resized as it is opened, the colours are gone
    assert not np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR)).any()


def test_labels_hold_no_new_id_after_resizing(copy):
    label = np.zeros((36, 48), np.uint8)
    label[::2, 5:] = 8
    Image.fromarray(label).save(copy / "labels/00001D.png")
    small = resize_sample(load_npz(copy).read("00001D"), (32, 32))
    assert set(np.unique(small["label"])) == {0, 8}
    assert 4 in np.asarray(Image.fromarray(label).resize((32, 32)))  # as the filter that is the default would make


# -- splits


def test_day_and_night_are_by_list_or_by_the_letter_of_the_stem(copy):
    listed = load_npz(copy)
    assert listed.ids("test_day") == LISTS["test_day"] == ["00150D", "00151D", "00170D"]
    assert listed.ids("test_night") == ["00160N", "00164N"]
    (copy / "test_day.txt").write_text("00151D\n00170D\n00150D\n")
    (copy / "test_night.txt").unlink()
    reordered = load_npz(copy)
    assert reordered.ids("test_day") == ["00151D", "00170D", "00150D"]
    assert reordered.ids("test_night") == listed.ids("test_night")


def test_a_test_set_by_day_only_has_no_split_for_the_night(tmp_path):
    dataset = load_npz(write(tmp_path, lists={"train": TRAIN, "val": VAL, "test": ["00150D"]}))
    assert dataset.card.splits == ("train", "val", "test", "test_day")


@pytest.mark.parametrize("list_name", ["test_day", "test_night"])
@pytest.mark.parametrize("stem", ["00150D", "00160N", "00001D"])
def test_a_list_by_light_holds_only_scenes_of_test_in_that_light(copy, list_name, stem):
    (copy / f"{list_name}.txt").write_text(stem)
    if (list_name, stem) in (("test_day", "00150D"), ("test_night", "00160N")):
        with pytest.warns(DataWarning, match="neither test_day nor test_night"):
            load_npz(copy)
    else:
        with pytest.raises(ValueError, match=rf"{list_name}\.txt names 1 scene.*{stem}"):
            load_npz(copy)


def test_lists_with_windows_lines_and_a_byte_order_mark_name_the_same_scenes(copy):
    before = [load_npz(copy).ids(split) for split in LISTS]
    for name, stems in LISTS.items():
        (copy / f"{name}.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(stems).encode() + b"\r\n")
    assert [load_npz(copy).ids(split) for split in LISTS] == before == list(LISTS.values())


def test_the_published_lists_open_without_a_warning_in_both_splits(tmp_path):
    root, stems = tmp_path / "MFNet", [f"{9 * i // 8:05d}{'DN'[i % 13 > 6]}" for i in range(1, 1570)]
    order = np.random.default_rng(0).permutation(stems).tolist()
    lists = {"train": order[:784], "val": order[784:1176], "test": order[1176:]}
    write(root, lists={"first": order[:1]})
    for folder in ("images", "labels"):
        for stem in order[1:]:
            os.link(root / folder / f"{order[0]}.png", root / folder / f"{stem}.png")
    for name, part in lists.items():
        (root / f"{name}.txt").write_text("\n".join(part))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        published, both = load_npz(root), load_npz(root, split="trainval")
    assert [published.ids(split) for split in lists] == list(lists.values())
    assert both.ids("test") == lists["test"]
    assert sorted(both.ids("train") + both.ids("val")) == sorted(lists["train"] + lists["val"])
    assert 70 <= len(both.ids("val")) <= 142
    assert not set(both.ids("val")) <= set(lists["val"])


def test_other_numbers_of_scenes_are_told(copy):
    with pytest.warns(
        DataWarning, match=r"train 11 \(published 784\), val 3 \(published 392\), test 5 \(published 393\)"
    ):
        load_npz(copy)
    with pytest.warns(DataWarning, match=r"train 14 \(published 1176\), test 5 \(published 393\)"):
        load_npz(copy, split="trainval")


def test_the_list_of_sigma_is_taken_for_train_and_val_together(tmp_path):
    dataset = load_npz(write(tmp_path, "Sigma", {"train2": TRAIN + VAL, "test": TEST}), split="trainval")
    assert sorted(dataset.ids("train") + dataset.ids("val")) == sorted(TRAIN + VAL)
    assert dataset.ids("test") == TEST


def test_a_copy_without_val_list_has_val_held_out_of_train_and_says_so(tmp_path):
    with pytest.warns(DataWarning, match=r"has no val\.txt; val is held out of train\.txt"):
        dataset = load_npz(write(tmp_path, "CMNeXt", {"train": TRAIN + VAL, "test": TEST}))
    assert sorted(dataset.ids("train") + dataset.ids("val")) == sorted(TRAIN + VAL)
    assert dataset.ids("val")


# -- mirrored pictures


def test_mirrored_pictures_that_were_never_made_are_named(copy):
    (copy / "train.txt").write_text("\n".join([*TRAIN, "00001D_flip", "00002D_flip"]))
    with pytest.raises(FileNotFoundError, match=r"6 file\(s\).*rgb images/00001D_flip\.png.*label labels/00001D_flip"):
        load_npz(copy)


def test_mirrored_pictures_are_trained_on_and_not_counted(tmp_path):
    flips = [f"{stem}_flip" for stem in TRAIN]
    with pytest.warns(DataWarning, match=r"train 11 \(published 784\)"):
        dataset = load_npz(write(tmp_path, lists=LISTS | {"train": TRAIN + flips}))
    assert dataset.ids("train") == TRAIN + flips
    np.testing.assert_array_equal(dataset.read("00001D_flip")["rgb"], dataset.read("00001D")["rgb"][..., ::-1])


@pytest.mark.parametrize("split", ["published", "trainval"])
def test_no_mirror_image_of_what_is_selected_or_tested_on_is_trained_on(tmp_path, split):
    flips = [f"{stem}_flip" for stem in TRAIN + VAL + TEST[:1]]
    with pytest.warns(DataWarning, match=r"mirrored picture\(s\) of val or test are left out of train: .*00150D_flip"):
        dataset = load_npz(write(tmp_path, lists=LISTS | {"train": TRAIN + flips}), split=split)
    trained = {stem.removesuffix("_flip") for stem in dataset.ids("train")}
    assert not trained & {*dataset.ids("val"), *dataset.ids("test")}
    assert any(stem.endswith("_flip") for stem in dataset.ids("train"))


# -- copies that are not right


def save(path, array):
    Image.fromarray(array).save(path)


def test_a_missing_scene_is_named_with_its_folder(copy):
    (copy / "labels/00131D.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 file\(s\).*label labels/00131D\.png"):
        load_npz(copy)


@pytest.mark.parametrize("name", ["images/00002D.png", "labels/00002D.png"])
@pytest.mark.parametrize("kept", [0, 60])
def test_a_truncated_or_empty_file_is_named(copy, name, kept):
    (copy / name).write_bytes((copy / name).read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"{name} \({kept} bytes\) cannot be read"):
        load_npz(copy).read("00002D")


def test_a_picture_that_lost_its_thermal_channel_is_refused(copy):
    save(copy / "images/00002D.png", scene("00002D")[0][..., :3])
    with pytest.raises(ValueError, match=r"images/00002D\.png holds uint8 of shape \(36, 48, 3\), expected at least 4"):
        load_npz(copy).read("00002D")


def test_a_thermal_picture_of_another_size_is_refused_with_both_sizes(tmp_path):
    root = write(tmp_path, "CMX")
    save(root / "Thermal/00002D.png", scene("00002D")[0][::2, ::2, 3])
    with pytest.raises(ValueError, match=r"Thermal/00002D\.png has 24x18 .*RGB/00002D\.png has 48x36"):
        load_npz(root).read("00002D")


@pytest.mark.parametrize(
    "pixels", [np.zeros((36, 48), np.uint16), scene("00002D")[0][..., :3]], ids=["16 bits", "pseudo-colours"]
)
def test_thermal_of_another_kind_is_refused(tmp_path, pixels):
    root = write(tmp_path, "Sigma")
    save(root / "Modal/00002D.png", pixels)
    with pytest.raises(ValueError, match=r"Modal/00002D\.png.*expected kind 'u8'"):
        load_npz(root).read("00002D")


def test_swapped_folders_are_refused(tmp_path):
    root = write(tmp_path, "CMX")
    (root / "RGB").rename(root / "other")
    (root / "Thermal").rename(root / "RGB")
    (root / "other").rename(root / "Thermal")
    with pytest.raises(ValueError, match=r"RGB/00001D\.png.*expected kind 'rgb'"):
        load_npz(root).read("00001D")


@pytest.mark.parametrize("classes", [9, 8])
@pytest.mark.parametrize("raw", [9, 255])
def test_labels_that_somebody_converted_are_refused(copy, classes, raw):
    label = scene("00002D")[1]
    label[0] = raw
    save(copy / "labels/00002D.png", label)
    with pytest.raises(ValueError, match=rf"labels/00002D\.png holds the ids \[{raw}\], which are no class"):
        load_npz(copy, classes=classes).read("00002D")


def test_labels_in_colours_are_refused(copy):
    save(copy / "labels/00002D.png", np.asarray(load_npz(copy).card.palette, np.uint8)[scene("00002D")[1]])
    with pytest.raises(ValueError, match=r"labels/00002D\.png holds 3 channels, expected one"):
        load_npz(copy).read("00002D")


def test_folders_in_another_case_are_told(copy):
    (copy / "images").rename(copy / "Images")
    with pytest.raises(
        FileNotFoundError, match=r"not MFNet as 'original': it holds Images/.*expected the folders images"
    ):
        load_npz(copy)


def test_a_missing_list_proposes_the_one_beside_it(copy):
    (copy / "test.txt").rename(copy / "Test.txt")
    with pytest.raises(FileNotFoundError, match=r"test\.txt does not exist.*Did you mean '"):
        load_npz(copy)


@pytest.mark.filterwarnings("ignore:.*neither test_day nor test_night")
@pytest.mark.parametrize("split", ["published", "trainval"])
@pytest.mark.parametrize(("name", "stem"), [("val", "00001D"), ("test", "00001D"), ("test", "00131D")])
def test_lists_that_share_a_scene_are_refused(copy, split, name, stem):
    with (copy / f"{name}.txt").open("a") as file:
        file.write(stem)
    with pytest.raises(ValueError, match=rf"1 scene.* in both .*{stem}"):
        load_npz(copy, split=split)


def test_an_empty_list_is_refused(copy):
    (copy / "val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt names no scene"):
        load_npz(copy)


def test_a_choice_that_does_not_exist_is_refused(copy):
    with pytest.raises(ValueError, match="classes = 7"):
        MFNetOptions.parse({"classes": 7})
    with pytest.raises(ValueError, match="Did you mean 'trainval'"):
        MFNetOptions.parse({"split": "train_val"})


# -- fingerprint


def test_the_fingerprint_changes_with_choices_files_and_code_and_not_with_the_place(copy, tmp_path, monkeypatch):
    seen = {load_npz(copy).fingerprint()}
    shutil.copytree(copy, tmp_path / "elsewhere")
    assert load_npz(tmp_path / "elsewhere").fingerprint() in seen
    seen |= {load_npz(copy, classes=8).fingerprint(), load_npz(copy, split="trainval").fingerprint()}
    save(copy / "labels/00002D.png", scene("00001D")[1])
    seen.add(load_npz(copy).fingerprint())
    (tmp_path / "mfnet.py").write_text("other code")
    monkeypatch.setattr(mfnet, "__file__", str(tmp_path / "mfnet.py"))
    seen.add(load_npz(copy).fingerprint())
    assert len(seen) == 5
