"""Layouts in which others hand datasets on, each on a tiny copy of it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import open_folder
from crodino_lib.data.folder_spec import PRESETS, FolderSpec
from crodino_lib.data.layouts import DataWarning
from crodino_lib.data.sample import check_sample
from crodino_lib.data.scene_cache import load_scenes
from crodino_lib.data.splits import hold_out
from crodino_lib.datasets.rgbt import TABLES

HEIGHT, WIDTH = 36, 48
TRAIN = [f"{number:05d}D" for number in (1, 2, 4, 6, 7, 9, 11, 13, 14, 16, 18, 20)]
TEST = ["00022D", "00030N", "00031N"]
KNOWN = PRESETS


def rgb(index: int) -> np.ndarray:
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([40 + 4 * row, 60 + 3 * column, np.full_like(row, 9 * index)], axis=-1).astype(np.uint8)


def grey(index: int) -> np.ndarray:
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return ((5 * row + 2 * column + index) % 256).astype(np.uint8)


def ids_up_to(last: int, index: int) -> np.ndarray:
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return ((4 * (row // 3) + column // 12 + index) % (last + 1)).astype(np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def save_as_dformer(path, array):
    """Depth in metres, as DFormer converts it: RGBA, stretched to the range of the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.imsave(path, array.astype(np.float32) / 25.5, cmap="Greys_r")


def save_three(path, array):
    save(path, array[..., None].repeat(3, axis=2))


# preset -> files of rgb, of the other sensor with how it is saved, of the label; highest id in a label; list of train
LAYOUTS = {
    "cmx-nyu": ("RGB/{}.jpg", "HHA/{}.jpg", save_three, "Label/{}.png", 40, "train.txt"),
    "dformer-nyu": ("RGB/{}.jpg", "Depth/{}.png", save_as_dformer, "Label/{}.png", 40, "train.txt"),
    "dformer-sunrgbd": ("RGB/{}.jpg", "Depth/{}.png", save_as_dformer, "labels/{}.png", 37, "train.txt"),
    "sigma-mfnet": ("RGB/{}.png", "Modal/{}.png", save, "Label/{}.png", 8, "train2.txt"),
    "sigma-pst900": ("rgb_resize/{}.png", "thermal_resize/{}.png", save, "labels_resize/{}.png", 4, "train.txt"),
    "cmnext-mfnet": ("rgb/{}.jpg", "ther/{}.jpg", save_three, "labels/{}.png", 8, "train.txt"),
    "egfnet": ("seperated_images/{}_rgb.png", "seperated_images/{}_th.png", save, "labels/{}.png", 8, "train.txt"),
    "msrs": ("{}/vi/{}.png", "{}/ir/{}.png", save, "{}/Segmentation_labels/{}.png", 8, None),
}


def write(root, preset):
    """A copy as ``preset`` says; lists are in the style of its project."""
    picture, other, save_other, label, last, train = LAYOUTS[preset]
    splits = {"train": TRAIN, "test": TEST} | ({"val": ["00040N"]} if preset == "egfnet" else {})
    index = 0
    for split, stems in splits.items():
        for stem in stems:
            place = (split, stem) if preset == "msrs" else (stem,)
            save(root / picture.format(*place), rgb(index))
            save_other(root / other.format(*place), grey(index))
            save(root / label.format(*place), ids_up_to(last, index))
            index += 1
        if train:
            line = "RGB/{}.jpg" if preset.startswith("dformer") else "{}"
            (root / (train if split == "train" else f"{split}.txt")).write_text("\n".join(map(line.format, stems)))
    return root


def load_npz(root, preset):
    return open_folder(DataConfig(dataset="folder", root=str(root), options={"preset": preset}))


def first(preset):
    return "train/00001D" if preset == "msrs" else "00001D"


def test_every_preset_has_a_copy_here():
    assert set(LAYOUTS) == set(KNOWN)


@pytest.mark.parametrize("preset", LAYOUTS)
def test_a_preset_reads_the_layout_it_is_named_after(tmp_path, preset):
    dataset = load_npz(write(tmp_path, preset), preset)
    sensor = next(name for name in dataset.card.sensors if name != "rgb")
    picture, other, _, _, last, _ = LAYOUTS[preset]
    shifted = preset in ("cmx-nyu", "dformer-nyu", "dformer-sunrgbd")
    assert len(dataset.card.classes) == last + (not shifted)
    ids = {split: dataset.ids(split) for split in dataset.card.splits}
    if preset == "egfnet":
        assert ids == {"train": TRAIN, "val": ["00040N"], "test": TEST}
    else:
        prefix = ("train/", "test/") if preset == "msrs" else ("", "")
        assert sorted(ids["train"] + ids["val"]) == [prefix[0] + stem for stem in TRAIN]
        assert ids["test"] == [prefix[1] + stem for stem in TEST]
        assert ids["val"]
    for scene_id in (first(preset), ids["test"][1]):
        sample, place = dataset.read(scene_id), scene_id.split("/")
        check_sample(sample, dataset.card)
        stored = np.asarray(Image.open(tmp_path / picture.format(*place)))
        np.testing.assert_array_equal(sample["rgb"], stored.transpose(2, 0, 1))
        stored = np.asarray(Image.open(tmp_path / other.format(*place)))
        stored = stored[..., None] if stored.ndim == 2 else stored
        channels = dataset.card.sensors[sensor].channels
        valid = stored[..., :1] > 0 if preset == "sigma-pst900" else np.ones((HEIGHT, WIDTH, 1), bool)
        np.testing.assert_array_equal(sample[sensor], stored[..., :channels].transpose(2, 0, 1))
        np.testing.assert_array_equal(sample[f"{sensor}_valid"], valid.transpose(2, 0, 1))
    raw = ids_up_to(last, 0)
    expected = np.where(raw == 0, 255, raw.astype(int) - 1) if shifted else raw
    np.testing.assert_array_equal(dataset.read(first(preset))["label"], expected)


@pytest.mark.parametrize("preset", LAYOUTS)
def test_a_preset_is_found_one_folder_deeper(tmp_path, preset):
    write(tmp_path / "copy/unpacked", preset)
    assert first(preset) in (dataset := load_npz(tmp_path / "copy", preset)).ids("train") + dataset.ids("val")


@pytest.mark.parametrize("preset", LAYOUTS)
def test_a_preset_names_statistics_of_the_code_it_is_named_after(preset):
    spec = FolderSpec.parse(KNOWN[preset])
    (sensor,) = spec.sensors.values()
    imagenet = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    grey_of_imagenet = ([np.mean(imagenet[0])], [255 * np.mean([0.229, 0.224, 0.225])])
    expected = {
        "cmx-nyu": imagenet,
        "dformer-nyu": ([255 * 0.48], [255 * 0.28]),
        "dformer-sunrgbd": ([255 * 0.48], [255 * 0.28]),
        "cmnext-mfnet": ([0], [255]),
    }.get(preset, grey_of_imagenet)
    np.testing.assert_allclose([sensor.mean, sensor.std], expected, atol=0.01)


@pytest.mark.parametrize("preset", ["sigma-mfnet", "cmnext-mfnet", "egfnet", "msrs"])
def test_presets_of_mfnet_have_its_classes_and_colours(preset):
    assert KNOWN[preset]["classes"] == list(TABLES["mfnet"]["classes"])
    assert KNOWN[preset]["palette"] == list(TABLES["mfnet"]["classes"].values())


def test_classes_of_sun_are_the_first_of_nyu():
    assert (
        KNOWN["dformer-sunrgbd"]["classes"] == KNOWN["dformer-nyu"]["classes"][:37] == KNOWN["cmx-nyu"]["classes"][:37]
    )


# -- lists


def test_ids_that_are_numbered_through_leave_a_val_of_sun_in_runs():
    stems = [f"img-{number:06d}" for number in range(5051, 10336)]
    with pytest.raises(ValueError, match="there are 1, of up to 5285"):
        hold_out(stems, 0.12)
    train, val = hold_out(stems, 0.12, longest=KNOWN["dformer-sunrgbd"]["val_run"])
    assert sorted(train + val) == stems
    assert 0.11 * 5285 < len(val) <= 0.12 * 5285 + 1
    numbers = [int(stem[4:]) for stem in val]
    assert np.count_nonzero(np.diff(numbers) > 1) < len(val) / 50  # so many places where neighbours are apart
    assert hold_out(stems, 0.12, longest=50)[1] == val


# -- labels and values


@pytest.mark.parametrize("preset", ["cmx-nyu", "dformer-nyu", "dformer-sunrgbd"])
def test_the_label_that_wraps_equals_an_explicit_map(tmp_path, preset):
    wrapped = load_npz(write(tmp_path, preset), preset)
    values = KNOWN[preset] | {"name": "spelt"}
    last = len(values["classes"])
    values["label"] = {key: value for key, value in values["label"].items() if key != "offset"}
    values["label"]["map"] = {"0": 255} | {str(raw): raw - 1 for raw in range(1, last + 1)}
    spelt = wrapped.__class__(FolderSpec.parse(values), tmp_path, {s: wrapped.ids(s) for s in wrapped.card.splits})
    for stem in TRAIN:
        raw = np.asarray(Image.open(tmp_path / LAYOUTS[preset][3].format(stem)))
        label = wrapped.read(stem)["label"]
        np.testing.assert_array_equal(label, spelt.read(stem)["label"])
        np.testing.assert_array_equal(label, raw - np.uint8(1))  # as the published code computes it, in eight bits


def test_an_id_beyond_the_classes_of_sun_is_refused(tmp_path):
    write(tmp_path, "dformer-sunrgbd")
    save(tmp_path / "labels/00002D.png", ids_up_to(38, 0))
    with pytest.raises(ValueError, match=r"labels/00002D\.png holds the ids \[38\]"):
        load_npz(tmp_path, "dformer-sunrgbd").read("00002D")


def test_depth_of_matplotlib_is_one_channel_from_near_to_far(tmp_path):
    dataset = load_npz(write(tmp_path, "dformer-nyu"), "dformer-nyu")
    stored = Image.open(tmp_path / "Depth/00001D.png")
    assert stored.mode == "RGBA"
    depth, metric = dataset.read("00001D")["depth"][0], grey(0)
    assert (depth.min(), depth.max()) == (0, 255)
    assert (np.diff(depth.ravel()[np.argsort(metric, axis=None, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("preset", ["dformer-nyu", "sigma-mfnet"])
@pytest.mark.parametrize("mode", ["one channel", "three equal", "opaque"])
def test_a_single_channel_sensor_reads_the_same_however_it_is_stored(tmp_path, preset, mode):
    write(tmp_path, preset)
    path, (name,) = tmp_path / LAYOUTS[preset][1].format("00001D"), KNOWN[preset]["sensors"]
    opaque = np.dstack([grey(0), grey(0), grey(0), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    save(path, {"one channel": grey(0), "three equal": opaque[..., :3], "opaque": opaque}[mode])
    np.testing.assert_array_equal(load_npz(tmp_path, preset).read("00001D")[name][0], grey(0))


def test_scenes_of_sun_may_differ_in_size_and_come_out_equally_large(tmp_path):
    write(tmp_path, "dformer-sunrgbd")
    for folder in ("RGB", "Depth", "labels"):
        for path in (tmp_path / folder).glob("0000[1-4]D.*"):
            Image.open(path).resize((60, 44), Image.Resampling.NEAREST).save(path)
    dataset = load_npz(tmp_path, "dformer-sunrgbd")
    assert dataset.read("00002D")["label"].shape == (44, 60)
    assert dataset.read("00006D")["label"].shape == (36, 48)
    assert dataset.card.native_size in ((60, 44), (48, 36))
    for size in ("32x32", "native"):
        config = DataConfig(dataset="folder", root=str(tmp_path), size=size, options={"preset": "dformer-sunrgbd"})
        scenes = load_scenes(dataset, "train", config, ("rgb", "depth"))
        width, height = config.pixels(dataset.card.native_size)
        assert scenes.labels.shape == (len(scenes.ids), height, width)


def test_holes_of_the_thermal_projection_are_invalid_in_pst900_only(tmp_path):
    for preset, folder in (("sigma-pst900", "thermal_resize"), ("sigma-mfnet", "Modal")):
        root = write(tmp_path / preset, preset)
        save(root / folder / "00001D.png", np.zeros((HEIGHT, WIDTH), np.uint8))
        assert load_npz(root, preset).read("00001D")["thermal_valid"].all() == (preset == "sigma-mfnet")


# -- copies that are not right


def test_a_scene_of_msrs_that_lacks_a_sensor_is_told(tmp_path):
    (write(tmp_path, "msrs") / "train/ir/00002D.png").unlink()
    with pytest.warns(DataWarning, match=r"1 scene\(s\) are left out, as they have no thermal: train/00002D"):
        dataset = load_npz(tmp_path, "msrs")
    assert "train/00002D" not in dataset.ids("train") + dataset.ids("val")


def test_a_copy_of_msrs_without_test_never_has_one_drawn(tmp_path):
    (write(tmp_path, "msrs") / "test").rename(tmp_path / "later")
    with pytest.raises(ValueError, match="scenes lie in train; expected the folders train and test"):
        load_npz(tmp_path, "msrs")


@pytest.mark.filterwarnings("error")
def test_pictures_for_detection_in_msrs_are_no_scenes(tmp_path):
    write(tmp_path, "msrs")
    for name in ("detection/vi/1.png", "train/Segmentation_visualize/00001D.png"):
        save(tmp_path / name, rgb(0))
    dataset = load_npz(tmp_path, "msrs")
    assert len(dataset.ids("train") + dataset.ids("val")) == len(TRAIN)


@pytest.mark.parametrize("preset", LAYOUTS)
def test_a_folder_that_is_something_else_is_refused(tmp_path, preset):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(
        (FileNotFoundError, ValueError), match=r"is not preset .*expected the folders|no scene has all|holds no picture"
    ):
        load_npz(tmp_path, preset)


def test_an_unknown_preset_proposes_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'sigma-mfnet'"):
        load_npz(tmp_path, "sigma-mfnett")


@pytest.mark.parametrize("preset", ["cmx-nyu", "dformer-nyu", "dformer-sunrgbd"])
def test_labels_that_count_from_zero_already_are_refused(tmp_path, preset):
    write(tmp_path, preset)
    for path in (tmp_path / LAYOUTS[preset][3]).parent.iterdir():
        save(path, np.asarray(Image.open(path)) - np.uint8(1))  # 0, which is ignored, becomes 255
    with pytest.raises(ValueError, match=r"holds the ids \[255\], which are no class"):
        load_npz(tmp_path, preset).read(TRAIN[-1])


def test_a_scene_in_both_folders_is_told(tmp_path):
    write(tmp_path, "msrs")
    for kind in ("vi", "ir", "Segmentation_labels"):
        path = tmp_path / "test" / kind / "00022D.png"
        save(tmp_path / "train" / kind / path.name, np.asarray(Image.open(path)))
    with pytest.warns(DataWarning, match=r"train/00022D of train and test/00022D of test are equal files"):
        load_npz(tmp_path, "msrs")
