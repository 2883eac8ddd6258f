import numpy as np
import pytest

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import open_folder
from crodino_lib.datasets.export import write_folder
from crodino_lib.rooms.dataset import open_rooms


@pytest.fixture
def rooms():
    return open_rooms(DataConfig(size="48x32", scenes=(3, 1, 2)), progress=False)


def test_a_dataset_reads_the_same_as_a_folder(rooms, tmp_path):
    toml = write_folder(rooms, tmp_path / "mine", (3, 1, 2))
    folder = open_folder(DataConfig(dataset="folder", root=str(toml.parent)))
    assert folder.card.classes == rooms.card.classes
    assert folder.card.palette == rooms.card.palette
    assert folder.card.sensors == rooms.card.sensors
    for split in ("train", "val", "test"):
        assert folder.ids(split) == rooms.ids(split)
        for scene_id in folder.ids(split):
            one, other = rooms.read(scene_id), folder.read(scene_id)
            for name in ("rgb", "label", "depth_valid", "thermal_valid", "thermal"):
                np.testing.assert_array_equal(one[name], other[name])
            np.testing.assert_allclose(one["depth"], other["depth"], atol=0.0005)


def test_a_folder_that_is_complete_is_left_as_it_is(rooms, tmp_path):
    toml = write_folder(rooms, tmp_path / "mine", (2, 1, 1))
    before = toml.stat().st_mtime_ns
    assert write_folder(rooms, tmp_path / "mine", (3, 1, 2)) == toml
    assert toml.stat().st_mtime_ns == before
    assert len((tmp_path / "mine/train.txt").read_text().split()) == 2


def test_an_interrupted_folder_is_not_taken_for_whole(rooms, tmp_path, monkeypatch):
    read = rooms.read
    monkeypatch.setattr(rooms, "read", lambda scene_id: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_folder(rooms, tmp_path / "mine", (2, 1, 1))
    assert not (tmp_path / "mine/dataset.toml").exists()
    monkeypatch.setattr(rooms, "read", read)
    assert write_folder(rooms, tmp_path / "mine", (2, 1, 1)).exists()


def test_what_sixteen_bits_cannot_hold_is_refused(rooms, tmp_path, monkeypatch):
    read = rooms.read
    monkeypatch.setattr(rooms, "read", lambda scene_id: {**(s := read(scene_id)), "depth": s["depth"] + 70})
    with pytest.raises(ValueError, match=r"metres below 65\.5, can be written"):
        write_folder(rooms, tmp_path / "mine", (1, 1, 1))
