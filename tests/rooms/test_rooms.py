"""The rendered dataset: what it holds, and that it survives interruption and damage."""

import dataclasses
import hashlib

import numpy as np
import pytest

from crodino_lib.config import DataConfig
from crodino_lib.data.sample import check_sample
from crodino_lib.rooms import store as store_module
from crodino_lib.rooms.dataset import open_rooms, render_rooms
from crodino_lib.rooms.grammar import compose
from crodino_lib.rooms.scene import CLASSES, FIELD_OF_VIEW, SPLITS
from crodino_lib.rooms.store import Store, _by_workers

CONFIG = DataConfig(size="64x48", scenes=(5, 2, 4), seed=7)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("rooms")


@pytest.fixture(autouse=True)
def _shared_cache(cache, monkeypatch, _own_folders):
    monkeypatch.setenv("CRODINO_CACHE", str(cache))


@pytest.fixture(scope="module")
def rooms(cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRODINO_CACHE", str(cache))
        return open_rooms(CONFIG)


def every_id(rooms):
    return [scene_id for split in SPLITS for scene_id in rooms.ids(split)]


def digests(rooms):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in rooms.store.folder.glob("*.npz")}


def test_every_scene_meets_the_contract(rooms):
    for scene_id in every_id(rooms):
        check_sample(rooms.read(scene_id), rooms.card)


def test_splits_have_the_counts_asked_for_and_share_no_scene(rooms):
    assert [len(rooms.ids(split)) for split in SPLITS] == [5, 2, 4, 2]
    pictures = {rooms.read(scene_id)["rgb"].tobytes() for scene_id in every_id(rooms)}
    assert len(pictures) == len(set(every_id(rooms))) == 13


def test_depth_is_zero_exactly_where_it_is_invalid(rooms):
    sample = rooms.read("train-00000")
    assert np.array_equal(sample["depth"] == 0, ~sample["depth_valid"])
    assert 0 < (~sample["depth_valid"]).mean() < 0.5
    assert sample["depth"].max() < 10


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


def test_night_is_darker_than_day(rooms):
    day = [
        rooms.read(scene_id)["rgb"].mean()
        for split in SPLITS
        for scene_id, night in rooms.factors(split)["night"].items()
        if not night
    ]
    night = [rooms.read(scene_id)["rgb"].mean() for scene_id in rooms.ids("test_night")]
    assert np.mean(night) < 0.85 * np.mean(day)


def test_thermal_follows_the_ambient_temperature(rooms):
    factors = rooms.factors("train")
    means = [rooms.read(scene_id)["thermal"].mean() for scene_id in factors.index]
    assert np.allclose(means, factors["ambient_c"] + factors["thermal_drift_c"] / 3, atol=2.5)


def test_sites_cover_pixels_of_the_pair_classes_only(rooms):
    paired = {"picture", "wall", "rug", "floor", "person", "statue", "appliance", "cabinet", "small ball", "large ball"}
    for scene_id in every_id(rooms):
        labels = rooms.read(scene_id)["label"][rooms.sites(scene_id) > 0]
        assert {CLASSES[i] for i in np.unique(labels)} <= paired


def test_missing_truncated_and_foreign_files_are_rendered_again_to_the_same_bytes(rooms):
    before, folder = digests(rooms), rooms.store.folder
    (folder / "train-00001.npz").unlink()
    whole = (folder / "train-00002.npz").read_bytes()
    (folder / "train-00002.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "val-00000.npz").write_bytes((folder / "val-00001.npz").read_bytes())
    (folder / "manifest.json").unlink()  # as after a kill -9 in the middle
    again = render_rooms(CONFIG)
    assert again.scenes == 3
    assert digests(rooms) == before
    assert again.checksum == rooms.checksum


def test_a_file_that_changed_is_refused_when_read_and_rendered_again_when_opened(rooms):
    path = rooms.store.folder / "test-00000.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"test-00000\.npz has changed"):
        rooms.read("test-00000")
    assert render_rooms(CONFIG).scenes == 1
    assert path.read_bytes() == whole


def test_larger_counts_extend_smaller_ones(rooms):
    before = digests(rooms)
    larger = open_rooms(CONFIG.model_copy(update={"scenes": (6, 2, 4)}))
    after = digests(rooms)
    assert set(after) - set(before) == {"train-00005.npz"}
    assert {name: after[name] for name in before} == before
    assert larger.fingerprint() != rooms.fingerprint()
    assert larger.checksum != rooms.checksum


def test_a_complete_dataset_is_opened_without_rendering_or_locking(rooms, monkeypatch):
    monkeypatch.setattr(store_module, "locked", None)
    assert open_rooms(CONFIG).checksum == rooms.checksum


def test_the_fingerprint_changes_with_the_renderer(rooms, monkeypatch):
    before = rooms.fingerprint()
    assert before == type(rooms)(CONFIG, {}, "").fingerprint()
    monkeypatch.setattr(store_module, "renderer_version", lambda: "other")
    assert before != type(rooms)(CONFIG, {}, "").fingerprint()


def test_worker_processes_render_the_same_bytes(rooms, tmp_path):
    jobs = [("train", 1), ("val", 0), ("test_night", 1)]
    elsewhere = dataclasses.replace(rooms.store, folder=tmp_path / "elsewhere")
    assert len(list(_by_workers(elsewhere, jobs, 2))) == 3
    for job in jobs:
        assert elsewhere.path(job).read_bytes() == rooms.store.path(job).read_bytes()


def test_a_failing_worker_is_reported_with_its_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    blocked = Store(tmp_path / "file" / "rooms", 0, 64, 48, "v")
    with pytest.raises(OSError, match=r"only 0 of 1 scenes could be rendered: .*Not a directory"):
        list(_by_workers(blocked, [("train", 0)], 1))


def test_an_unknown_scene_or_split_is_named_with_the_nearest_right_one(rooms):
    with pytest.raises(ValueError, match=r"'tests' does not exist.*Did you mean 'test'"):
        rooms.ids("tests")
    with pytest.raises(ValueError, match=r"train-00099"):
        rooms.read("train-00099")
