import re
import shutil
import warnings

import numpy as np
import pytest
from miniatures.kp import FEW, IDS, scene, write
from PIL import Image

from crodino_lib.config import DataConfig
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.sample import check_sample
from crodino_lib.data.scene_cache import resize_sample
from crodino_lib.datasets.kp import CLASSES, SETS, open_kp

pytestmark = pytest.mark.filterwarnings("ignore:this copy of KP has other numbers")


def load_npz(root):
    return open_kp(DataConfig(dataset="kp", root=str(root)))


def save(path, array):
    Image.fromarray(array).save(path)


@pytest.fixture
def copy(tmp_path):
    return write(tmp_path / "KPdataset")


# -- what is read


def test_the_tree_of_ms_uda_is_read_as_stored(tmp_path):
    dataset = load_npz(write(tmp_path, "MS-UDA"))
    for scene_id in FEW:
        sample, (rgb, thermal, label) = dataset.read(scene_id), scene(scene_id)
        check_sample(sample, dataset.card)
        np.testing.assert_array_equal(sample["rgb"], rgb.transpose(2, 0, 1))
        np.testing.assert_array_equal(sample["thermal"], thermal[None])
        np.testing.assert_array_equal(sample["label"], np.where(label >= 19, 255, label))
        assert sample["thermal_valid"].all()


def test_the_tree_of_kaist_holds_the_same_scenes_under_the_same_ids(tmp_path):
    one = load_npz(write(tmp_path / "one", "MS-UDA"))
    root = tmp_path / "other"  # what MS-UDA has, moved to where KAIST has it
    for path in (tmp_path / "one").glob("*/val_*/*.png"):
        if fits := re.fullmatch(r"(set\d\d)_(V\d{3})_(visible|lwir)_(I\d{5})\.png", path.name):
            name, video, sensor, frame = fits.groups()
            target = root / f"images/{name}/{video}/{sensor}/{frame}.jpg"
        elif path.parts[-3] == "labels":
            target = root / f"labels/{path.name}"
        else:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)  # PNG by content, so that pixels can be compared
    other = load_npz(root)
    for split in SETS:
        assert one.ids(split) == other.ids(split)
    for scene_id in FEW:
        for entry, value in one.read(scene_id).items():
            np.testing.assert_array_equal(other.read(scene_id)[entry], value)


def test_thermal_jpegs_of_three_equal_channels_become_one_and_lose_nothing(copy):
    dataset = load_npz(copy)
    for quality in (30, 75, 95):
        grey3 = scene(FEW[0])[1][..., None].repeat(3, axis=2)
        Image.fromarray(grey3).save(copy / "images/set00/V000/lwir/I00050.jpg", quality=quality)
        stored = np.asarray(Image.open(copy / "images/set00/V000/lwir/I00050.jpg"))
        assert stored.shape == (32, 40, 3)
        assert not np.ptp(stored, axis=2).any()  # grey has no chroma that compression could round
        sample = dataset.read(FEW[0])
        check_sample(sample, dataset.card)
        np.testing.assert_array_equal(sample["thermal"][0], stored[..., 0])
        np.testing.assert_array_equal(sample["thermal"][0], stored.mean(axis=2))  # as CRM reads them


def test_thermal_of_one_channel_reads_the_same(copy):
    Image.fromarray(scene(FEW[0])[1]).save(copy / "images/set00/V000/lwir/I00050.jpg")
    dataset = load_npz(copy)
    one = dataset.read(FEW[0])["thermal"]
    Image.fromarray(scene(FEW[0])[1][..., None].repeat(3, axis=2)).save(copy / "images/set00/V000/lwir/I00050.jpg")
    np.testing.assert_array_equal(dataset.read(FEW[0])["thermal"], one)


def test_void_and_all_ids_above_are_ignored(copy):
    label = np.tile(np.arange(40, dtype=np.uint8), (32, 1))
    label[:, 30:] = 255
    save(copy / "labels/set00_V000_I00050.png", label)
    with pytest.warns(DataWarning, match=r"set00_V000_I00050\.png holds the ids \[20, 21, 22, 23, 24, 25, 26, 27\]"):
        dataset = load_npz(copy)
    read = dataset.read(FEW[0])["label"][0]
    assert read.tolist() == [*range(19), *[255] * 21]
    assert set(np.unique(resize_sample(dataset.read(FEW[0]), (32, 32))["label"])) <= {*range(19), 255}


def test_a_label_of_classes_and_void_is_no_cause_for_a_warning(copy):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_npz(copy)
    assert not [warning for warning in told if "holds the ids" in str(warning.message)]


def test_the_card_has_the_classes_and_colours_of_cityscapes(copy):
    card = load_npz(copy).card
    assert card.classes == tuple(CLASSES)
    assert (len(card.classes), card.classes[0], card.classes[18]) == (19, "road", "bicycle")
    assert (card.palette[0], card.palette[11], card.palette[18]) == ((128, 64, 128), (220, 20, 60), (119, 11, 32))
    assert len(set(card.palette)) == 19
    assert card.native_size == (40, 32)
    assert card.sensors["thermal"].unit == "0..255"
    label = scene(FEW[0])[2]
    drawn = np.vstack([card.palette, np.zeros((237, 3))])[load_npz(copy).read(FEW[0])["label"]]
    back = (drawn[:, :, None] == np.asarray(card.palette)).all(axis=-1)
    np.testing.assert_array_equal(
        np.where(back.any(axis=-1), back.argmax(axis=-1), 255), np.where(label > 18, 255, label)
    )


# -- splits


@pytest.mark.parametrize("layout", ["KAIST", "MS-UDA"])
def test_the_rule_by_set_gives_the_published_splits_without_a_warning(tmp_path, layout):
    root, few = write(tmp_path / "few", layout), {scene_id.split("/")[0]: scene_id for scene_id in FEW}
    for scene_id in IDS:  # every published scene, as a link to the one of its set
        first = few[scene_id.split("/")[0]]
        for source, target in zip(_names(root, layout, first), _names(root, layout, scene_id), strict=True):
            if source != target:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = load_npz(root)
    counts = {split: len(dataset.ids(split)) for split in dataset.card.splits}
    assert counts == {"train": 499, "val": 140, "test": 311, "test_day": 178, "test_night": 133}
    assert sorted(dataset.ids("test_day") + dataset.ids("test_night")) == dataset.ids("test")
    assert sorted(dataset.ids("train") + dataset.ids("val") + dataset.ids("test")) == sorted(IDS)
    assert {scene_id[:5] for scene_id in dataset.ids("val")} == {"set06", "set10"}


def _names(root, layout, scene_id):
    name, video, frame = scene_id.split("/")
    if layout == "KAIST":
        pictures = [root / f"images/{name}/{video}/{sensor}/{frame}.jpg" for sensor in ("visible", "lwir")]
        return [*pictures, root / f"labels/{name}_{video}_{frame}.png"]
    light = "val_night" if name in ("set03", "set04", "set05", "set09", "set10", "set11") else "val_day"
    pictures = [root / f"pseudo_KP/{light}/{name}_{video}_{sensor}_{frame}.png" for sensor in ("visible", "lwir")]
    return [*pictures, root / f"labels/{light}/{name}_{video}_{frame}.png"]


def test_pictures_without_a_label_are_no_scenes(copy):
    assert (copy / "images/set00/V000/visible/I00001.jpg").is_file()
    dataset = load_npz(copy)
    assert sorted(scene_id for split in ("train", "val", "test") for scene_id in dataset.ids(split)) == FEW
    with pytest.raises(ValueError, match="no scene 'set00/V000/I00001'"):
        dataset.read("set00/V000/I00001")


def test_other_numbers_of_scenes_are_told(copy):
    with pytest.warns(DataWarning, match=r"KP has other numbers of scenes: train 6 \(published 499\), val 2 \("):
        load_npz(copy)


def test_a_test_set_by_day_only_has_no_split_for_the_night(tmp_path):
    dataset = load_npz(write(tmp_path, ids=[scene_id for scene_id in FEW if scene_id[:5] not in ("set09", "set11")]))
    assert dataset.card.splits == ("train", "val", "test", "test_day")


def test_lists_are_not_read_so_that_a_wrong_one_cannot_matter(copy):
    before = load_npz(copy).ids("train")
    (copy / "train.txt").write_bytes(b"set07_V000_I00050.png\r\n")
    assert load_npz(copy).ids("train") == before


def test_the_copy_is_found_one_folder_deeper(tmp_path):
    write(tmp_path / "copy/KPdataset", "MS-UDA")
    assert load_npz(tmp_path / "copy").ids("val") == ["set06/V000/I00050", "set10/V000/I00050"]


# -- copies that are not right


@pytest.mark.parametrize(("sensor", "entry"), [("visible", "rgb"), ("lwir", "thermal")])
def test_a_picture_that_a_label_lacks_is_named_with_its_sensor(copy, sensor, entry):
    (copy / f"images/set07/V000/{sensor}/I00050.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 file\(s\).*{entry} of set07/V000/I00050 \(.*/{sensor}/"):
        load_npz(copy)


def test_a_copy_without_labels_is_told(copy):
    shutil.rmtree(copy / "labels")
    (copy / "labels").mkdir()
    with pytest.raises(ValueError, match=r"labels holds no label that is named as set00_V000_I00050\.png"):
        load_npz(copy)


def test_a_split_without_labels_is_told(tmp_path):
    with pytest.raises(ValueError, match="the split val has no scene"):
        load_npz(write(tmp_path, ids=[scene_id for scene_id in FEW if scene_id[:5] not in ("set06", "set10")]))


def test_folders_in_another_case_are_told(copy):
    (copy / "images").rename(copy / "Images")
    with pytest.raises(FileNotFoundError, match=r"not KP as 'KAIST': it holds Images/.*expected the folders images"):
        load_npz(copy)


def test_sensors_that_changed_places_are_refused(copy):
    folder = copy / "images/set00/V000"
    (folder / "visible").rename(folder / "other")
    (folder / "lwir").rename(folder / "visible")
    (folder / "other").rename(folder / "lwir")
    with pytest.raises(ValueError, match=r"lwir/I00050\.jpg holds uint8 .*expected kind 'u8'"):
        load_npz(copy).read(FEW[0])


def test_thermal_of_sixteen_bits_is_refused(tmp_path):
    root = write(tmp_path, "MS-UDA")
    save(root / "pseudo_KP/val_day/set00_V000_lwir_I00050.png", np.zeros((32, 40), np.uint16))
    with pytest.raises(ValueError, match=r"lwir_I00050\.png holds uint16"):
        load_npz(root).read(FEW[0])


def test_pictures_of_unequal_size_are_named_with_their_sizes(copy):
    save(copy / "images/set00/V000/lwir/I00050.jpg", np.zeros((16, 20), np.uint8))
    with pytest.raises(ValueError, match=r"lwir/I00050\.jpg has 20x16 .*visible/I00050\.jpg has 40x32"):
        load_npz(copy).read(FEW[0])


@pytest.mark.parametrize("name", ["images/set06/V000/visible/I00050.jpg", "labels/set06_V000_I00050.png"])
@pytest.mark.parametrize("kept", [0, 50])
def test_a_truncated_or_empty_file_is_named(copy, name, kept):
    dataset = load_npz(copy)
    (copy / name).write_bytes((copy / name).read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"{name} \({kept} bytes\) cannot be read"):
        dataset.read("set06/V000/I00050")


def test_a_label_in_colours_is_refused(copy):
    save(copy / "labels/set06_V000_I00050.png", scene(FEW[6])[0])
    with pytest.raises(ValueError, match=r"set06_V000_I00050\.png holds 3 channels, expected one"):
        load_npz(copy).read("set06/V000/I00050")


def test_a_label_of_sixteen_bits_beyond_255_is_refused(copy):
    save(copy / "labels/set06_V000_I00050.png", np.full((32, 40), 256, np.uint16))
    with pytest.raises(ValueError, match=r"set06_V000_I00050\.png holds the ids \[256\], which are no class"):
        load_npz(copy).read("set06/V000/I00050")


def test_a_label_in_both_lights_is_refused(tmp_path):
    root = write(tmp_path, "MS-UDA")
    shutil.copy(root / "labels/val_day/set00_V000_I00050.png", root / "labels/val_night/set00_V000_I00050.png")
    with pytest.raises(ValueError, match=r"both fit the id 'set00/V000/I00050'"):
        load_npz(root)


# -- fingerprint


def test_the_fingerprint_changes_with_files_and_not_with_the_place(copy, tmp_path):
    before = load_npz(copy).fingerprint()
    shutil.copytree(copy, tmp_path / "elsewhere")
    assert load_npz(tmp_path / "elsewhere").fingerprint() == before
    save(copy / "labels/set06_V000_I00050.png", scene(FEW[0])[2])
    assert load_npz(copy).fingerprint() != before


def test_a_label_that_is_named_as_none_is_told(copy):
    path = next((copy / "labels").glob("*.png"))
    path.rename(path.with_name("set00_V000_visible_I99999.png"))
    with pytest.warns(DataWarning, match=r"1 label file\(s\) are named as no label is.*visible_I99999\.png"):
        load_npz(copy)


def test_a_scene_of_a_list_without_a_label_is_told(copy):
    (copy / "train.txt").write_text("set00_V000_I77777.png\r\n")
    with pytest.warns(DataWarning, match=r"1 scene\(s\) of pictures or lists have no label: set00/V000/I77777"):
        load_npz(copy)


def test_a_picture_of_ms_uda_without_a_label_is_told(tmp_path):
    root = write(tmp_path, "MS-UDA")
    next((root / "labels").glob("val_*/*.png")).unlink()
    with pytest.warns(DataWarning, match=r"1 scene\(s\) of pictures or lists have no label: set\d\d/V\d{3}/I\d{5}$"):
        load_npz(root)
