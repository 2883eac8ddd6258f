"""The rendered dataset: what its scenes show, and that it survives interruption and damage."""

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import open_folder
from crodino_lib.data.folder_spec import read_spec
from crodino_lib.data.image_files import read_sensor
from crodino_lib.data.sample import check_sample
from crodino_lib.rooms import generate
from crodino_lib.rooms.generate import SPEC, open_rooms, render_rooms
from crodino_lib.rooms.grammar import compose
from crodino_lib.rooms.scene import CLASSES, FIELD_OF_VIEW, SPLITS

GOLDEN = (146.99, 2.87, 17.81, 2.02)  # means of rgb, depth, thermal and label of train-00000
CONFIG = DataConfig(size="64x48", scenes=(5, 2, 4), scene_seed=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return render_rooms(CONFIG, tmp_path_factory.mktemp("rooms"))


@pytest.fixture
def copy(folder, tmp_path, monkeypatch):
    """A copy that may be damaged, in the place of this test's cache."""
    monkeypatch.setenv("CRODINO_CACHE", str(tmp_path))
    return shutil.copytree(folder, tmp_path / "rooms" / folder.name)


@pytest.fixture
def rooms(copy):
    return open_rooms(CONFIG)


@pytest.fixture
def rendered(monkeypatch):
    """The ids of the scenes that are rendered."""
    ids, original = [], generate._render
    monkeypatch.setattr(generate, "_render", lambda *arguments: ids.append(arguments[-1]) or original(*arguments))
    return ids


def every_id(rooms):
    return [scene_id for split in SPLITS for scene_id in rooms.ids(split)]


def contents(folder):
    """Path below the folder -> bytes, of every file but the lock; ``factors.csv`` as a set of lines."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.name != ".lock"}
    return files | {"factors.csv": set(files["factors.csv"].splitlines())}


# -- what the scenes show


def test_scenes_keep_the_contract_and_splits_have_the_counts_asked_for(rooms):
    samples = [rooms.read(scene_id) for scene_id in every_id(rooms)]
    for sample in samples:
        check_sample(sample, rooms.card)
        assert np.array_equal(sample["depth"] == 0, ~sample["depth_valid"])
        assert 0 < (~sample["depth_valid"]).mean() < 0.5
        assert sample["depth"].max() < 10
    assert [len(rooms.ids(split)) for split in SPLITS] == [5, 2, 4, 2]
    assert len({sample["rgb"].tobytes() for sample in samples}) == 13


def test_the_folder_is_read_by_the_reader_of_ordinary_folders(rooms):
    plain = open_folder(DataConfig(dataset="folder", root=str(rooms.root)))
    assert plain.card == rooms.card
    assert plain.card.classes == CLASSES
    assert plain.card.sensors["depth"].focal == pytest.approx(0.5 / np.tan(FIELD_OF_VIEW / 2))
    for split in SPLITS:
        assert plain.ids(split) == rooms.ids(split)
        np.testing.assert_equal(plain.read(rooms.ids(split)[0]), rooms.read(rooms.ids(split)[0]))


@pytest.mark.parametrize(("sensor", "expected"), [("depth", (0, 1000)), ("thermal", (10000, 100))])
def test_every_stored_value_is_read_as_the_nearest_float(tmp_path, sensor, expected):
    raw = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(raw).save(tmp_path / "all.png")
    zero, per_unit = expected
    values, valid = read_sensor(tmp_path / "all.png", read_spec(SPEC).sensors[sensor])
    np.testing.assert_array_equal(values[0], (raw.astype(np.float32) - zero) / np.float32(per_unit))
    assert np.flatnonzero(~valid).tolist() == ([0] if sensor == "depth" else [])


def test_pixels_are_those_of_this_renderer_version(rooms):
    """Where this fails on purpose, raise ``RENDERER_VERSION`` and write down the new numbers."""
    assert generate.RENDERER_VERSION == 1
    sample = rooms.read("train-00000")
    means = [sample[name].mean() for name in ("rgb", "depth", "thermal", "label")]
    assert means == pytest.approx(GOLDEN, rel=0.01)


def test_floor_pixels_back_projected_by_depth_lie_on_the_floor(rooms):
    across, down = np.meshgrid((np.arange(64) + 0.5) / 32 - 1, (np.arange(48) + 0.5) / 24 - 1)
    for index, scene_id in enumerate(rooms.ids("train")):
        camera, sample = compose(7, "train", index).camera, rooms.read(scene_id)
        points = camera.position + sample["depth"][0][..., None] * camera.rays(across, down, 0.75)
        on_floor = (sample["label"] == CLASSES.index("floor")) & sample["depth_valid"][0]
        assert abs(np.median(points[on_floor][:, 2])) < 0.05


def test_things_appear_where_the_camera_projects_them(rooms):
    found = {"part": [], "blank": [], "ball": []}
    for scene_id in every_id(rooms):
        split, _, index = scene_id.rpartition("-")
        scene, label, sites = compose(7, split, int(index)), rooms.read(scene_id)["label"], rooms.sites(scene_id)
        solid = [part for part in scene.parts if part.label in ("picture", "window", "seat", "lamp")]
        for kind, point, seen, expected in (
            *(("part", part.a, label, CLASSES.index(part.label)) for part in solid),
            *(("blank", blank.centre, sites, blank.site) for blank in scene.blanks),
            *(("ball", ball.centre, sites, ball.site) for ball in scene.balls),
        ):
            row, column = projected(scene.camera, point)
            if 0 <= row < 48 and 0 <= column < 64:
                found[kind].append(seen[row, column] == expected)
    assert min(map(len, found.values())) > 8
    assert min(map(np.mean, found.values())) > 0.7, "some are hidden, most are not"


def projected(camera, point):
    """Row and column of a point of the world, written out once more without the renderer's code."""
    way = np.array(point) - camera.position
    focal, ahead = 32 / np.tan(FIELD_OF_VIEW / 2), way @ camera.forward
    return int(24 + focal * (way @ camera.down) / ahead), int(32 + focal * (way @ camera.right) / ahead)


def test_night_is_darker_and_thermal_follows_the_ambient_temperature(rooms):
    factors = pd.concat([rooms.factors(split) for split in SPLITS])
    samples = [rooms.read(scene_id) for scene_id in factors.index]
    brightness = np.array([sample["rgb"].mean() for sample in samples])
    night = factors["night"].to_numpy() == 1
    assert night[-2:].all()
    assert brightness[night].mean() < 0.85 * brightness[~night].mean()
    celsius = [sample["thermal"].mean() for sample in samples]
    assert np.allclose(celsius, factors["ambient_c"] + factors["thermal_drift_c"] / 3, atol=2.5)


def test_factors_are_those_the_scene_was_composed_from(rooms):
    for index, row in enumerate(rooms.factors("val").to_dict("records")):
        assert row == compose(7, "val", index).factors


def test_sites_cover_pixels_of_the_pair_classes_only(rooms):
    paired = {"picture", "wall", "rug", "floor", "person", "statue", "appliance", "cabinet", "small ball", "large ball"}
    for scene_id in every_id(rooms):
        labels = rooms.read(scene_id)["label"][rooms.sites(scene_id) > 0]
        assert {CLASSES[i] for i in np.unique(labels)} <= paired


# -- what is rendered, and when


def test_missing_and_damaged_files_are_rendered_again_to_the_same_bytes(folder, copy, rendered):
    (copy / "rgb/train-00001.png").unlink()
    whole = (copy / "depth/train-00002.png").read_bytes()
    (copy / "depth/train-00002.png").write_bytes(whole[: len(whole) // 2])
    table = (copy / "factors.csv").read_text()
    (copy / "factors.csv").write_text(table[:-5])  # as after a kill while the last row was written
    assert render_rooms(CONFIG) == copy
    assert set(rendered) == {"train-00001", "train-00002", table.splitlines()[-1].split(",")[0]}
    assert contents(copy) == contents(folder)


def test_without_its_table_all_scenes_are_rendered_again(folder, copy, rendered):
    (copy / "factors.csv").write_text("nonsense")
    render_rooms(CONFIG)
    assert len(rendered) == 13
    assert contents(copy) == contents(folder)


def test_an_interrupted_rendering_goes_on_and_ends_the_same(folder, tmp_path, monkeypatch, rendered):
    counting = generate._render

    def dying(*arguments):
        if len(rendered) == 6:
            raise KeyboardInterrupt
        return counting(*arguments)

    monkeypatch.setattr(generate, "_render", dying)
    with pytest.raises(KeyboardInterrupt):
        render_rooms(CONFIG, tmp_path)
    assert not (tmp_path / folder.name / "dataset.toml").exists()
    monkeypatch.setattr(generate, "_render", counting)
    render_rooms(CONFIG, tmp_path)
    assert len(rendered) == len(set(rendered)) == 13
    assert contents(tmp_path / folder.name) == contents(folder)


def test_larger_counts_extend_smaller_ones(folder, rooms, rendered):
    larger = open_rooms(CONFIG.model_copy(update={"scenes": (6, 2, 4)}))
    assert rendered == ["train-00005"]
    assert larger.root == rooms.root
    before, after = contents(folder), contents(larger.root)
    assert all(after[name] == before[name] for name in before if name.endswith(".png"))
    assert larger.fingerprint() != rooms.fingerprint()
    again = open_rooms(CONFIG)
    assert len(again.ids("train")) == 5
    assert again.fingerprint() == rooms.fingerprint()


def test_a_complete_dataset_is_opened_without_rendering_or_locking(copy, monkeypatch):
    monkeypatch.setattr(generate, "file_lock", None)
    monkeypatch.setattr(generate, "_render", None)
    assert open_rooms(CONFIG).root == copy


def test_another_renderer_version_has_another_folder_and_fingerprint(rooms, monkeypatch):
    monkeypatch.setattr(generate, "RENDERER_VERSION", 2)
    monkeypatch.setattr(generate, "_render_all", lambda new, *_: shutil.copytree(rooms.root, new, dirs_exist_ok=True))
    other = open_rooms(CONFIG)
    assert other.root != rooms.root
    assert other.fingerprint() != rooms.fingerprint()


def test_a_script_without_a_main_guard_renders_the_same_bytes_in_two_processes(folder, tmp_path):
    (tmp_path / "script.py").write_text(
        "from crodino_lib.config import DataConfig\n"
        "from crodino_lib.rooms import generate\n"
        "generate.SCENES_PER_PROCESS, generate.cpu_count = 2, lambda: 2\n"
        "generate.render_rooms(DataConfig(size='64x48', scenes=(5, 2, 4), scene_seed=7))\n"
    )
    environment = {**os.environ, "CRODINO_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("13 of 13 scenes") == 1
    assert contents(tmp_path / "rooms" / folder.name) == contents(folder)


def test_two_that_render_at_once_do_not_render_twice(tmp_path, rendered):
    few = CONFIG.model_copy(update={"scenes": (1, 1, 1)})
    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(lambda _: render_rooms(few, tmp_path), range(2)))) == 1
    assert len(rendered) == 4


def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match=r"cannot write train-00000.png into .*the disk is full.*CRODINO_CACHE"):
        render_rooms(CONFIG, tmp_path)
