"""What every dataset of the registry promises, and every reader of files on disk, on a miniature of it."""

import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import miniatures
import numpy as np
import pytest
import torch
from PIL import Image

from crodino_lib.augment import augment
from crodino_lib.config import DataConfig, RunConfig
from crodino_lib.data.registry import DATASETS, open_dataset
from crodino_lib.data.sample import RGB, check_sample
from crodino_lib.data.scene_cache import load_scenes, resize_sample
from crodino_lib.methods.registry import build_method
from crodino_lib.train import seeded

pytestmark = pytest.mark.filterwarnings("ignore::crodino_lib.data.layouts.DataWarning")  # miniatures have few scenes


MODULES = [import_module(f"miniatures.{module.name}") for module in iter_modules(miniatures.__path__)]
READERS = {name: reader for module in MODULES for name, reader in module.READERS.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Callable[[str], Path]:
    """``written(name)`` is a miniature that tests only read."""
    root = tmp_path_factory.mktemp("written")

    def write(name: str) -> Path:
        return root / name if (root / name).is_dir() else READERS[name].write(root / name)

    return write


@pytest.fixture
def copied(tmp_path, written) -> Callable[[str], Path]:
    """``copied(name)`` is a miniature that a test may damage."""
    return lambda name: Path(shutil.copytree(written(name), tmp_path / name))


def open_copy(name: str, root: Path):
    return open_dataset(DataConfig(dataset=name, root=str(root), options=READERS[name].options))


@pytest.fixture(params=DATASETS)
def config(request, written) -> DataConfig:
    name = request.param
    own = {"dataset": name, "size": "48x32", "scenes": (3, 1, 2)}
    if name in READERS:
        return DataConfig(**own, root=str(written(name)), limit=True, options=READERS[name].options)
    if name == "folder":
        return DataConfig(**own, root=str(request.getfixturevalue("mini")), limit=True)
    return DataConfig(**own)


def test_a_dataset_keeps_what_every_dataset_promises(config):
    dataset = open_dataset(config)
    card = dataset.card
    assert card.name == config.dataset or config.dataset == "folder"
    assert card.sensors["rgb"] == RGB
    assert len(card.sensors) >= 2
    assert all(len(s.mean) == len(s.std) == s.channels and min(s.std) > 0 and s.unit for s in card.sensors.values())
    assert len(card.palette) == len(card.classes) == len(set(card.classes)) <= 255
    assert {"train", "val", "test"} <= set(card.splits)
    ids = [scene_id for split in ("train", "val", "test") for scene_id in dataset.ids(split)]
    assert len(ids) == len(set(ids)) >= 3
    check_sample(dataset.read(ids[0]), card)
    again = open_dataset(config)
    assert again.fingerprint() == dataset.fingerprint()
    assert [i for split in ("train", "val", "test") for i in again.ids(split)] == ids
    for split in card.splits:
        scenes = load_scenes(dataset, split, config, tuple(card.sensors))
        assert len(scenes) == len(scenes.ids) > 0
        assert set(scenes.images) == set(card.sensors)
        assert all(image.shape[-2:] == (32, 48) for image in scenes.images.values())
        assert all(
            not scenes.images[name][~np.broadcast_to(valid, scenes.images[name].shape)].any()
            for name, valid in scenes.valid.items()
        )
        assert set(np.unique(scenes.labels)) <= {*range(len(card.classes)), 255}
        assert scenes.factors is None or list(scenes.factors.index) == scenes.ids
        small = resize_sample(dataset.read(scenes.ids[0]), (48, 32))
        for name, sensor in card.sensors.items():  # the cache loses less than a thousandth of the deviation
            lost = np.abs(small[name].astype(np.float64) - scenes.images[name][0]).max()
            assert lost <= min(sensor.std) / 1000


@pytest.mark.parametrize("config", ["nyu13", "potsdam", "mfnet"], indirect=True)
def test_a_method_of_two_sensors_trains_on_it(config):
    """One step of CroDiNo-KD on whatever the sensors are called, and finite gradients."""
    dataset = open_dataset(config)
    sensors = tuple(dataset.card.sensors)[:2]
    scenes = load_scenes(dataset, "train", config, sensors)
    method = build_method(RunConfig(method="crodino-kd", sensors=sensors, data=config), dataset.card).train()
    batch = augment(scenes, [0, 1], dataset.card, sensors, "decoupled", seeded(0, "test"), torch.device("cpu"))
    terms = method.training_step(batch, 0.5)
    torch.stack(list(terms.values())).sum().backward()
    assert {f"segmentation/{sensor}" for sensor in sensors} <= set(terms)
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.needs_root])
def test_a_dataset_on_disk_asks_for_its_root(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name}.*needs root"):
        open_dataset(DataConfig(dataset=name))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_dataset(DataConfig(dataset=name, root=str(tmp_path / "nowhere")))
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError):
        open_dataset(DataConfig(dataset=name, root=str(tmp_path)))


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, reader in READERS.items() for file in reader.files])
def test_a_truncated_empty_or_missing_file_is_named(copied, name, file):
    root, reader = copied(name), READERS[name]
    dataset, path = open_copy(name, root), root / file
    content = path.read_bytes()
    for kept in (len(content) // 2, 0):
        path.write_bytes(content[:kept])
        with pytest.raises(ValueError, match=rf"{re.escape(file)} \({kept} bytes\) cannot be read"):
            (open_copy(name, root) if reader.of_a_tile else dataset).read(reader.scene)
    path.unlink()
    if (name, path.parent.name) == ("kp", "labels"):  # labels decide what is a scene
        return
    named = {file, Path(file).name, f" of {reader.scene} ", "6_9."}  # by its path, or by its sensor and scene
    with pytest.raises(FileNotFoundError, match=r"[12] file\(s\)") as error:
        open_copy(name, root)
    assert any(name in str(error.value) for name in named)
    with pytest.raises(FileNotFoundError, match=re.escape(file)):
        dataset.read(reader.scene)


@pytest.mark.parametrize("name", [name for name in READERS if name != "pst900"])
def test_hidden_files_are_not_scenes(copied, name):
    root = copied(name)
    before = open_copy(name, root)
    for file in READERS[name].files:
        for hidden in (f"._{Path(file).name}", ".DS_Store"):
            (root / file).with_name(hidden).write_bytes(b"x")
    after = open_copy(name, root)
    assert [after.ids(split) for split in after.card.splits] == [before.ids(split) for split in before.card.splits]
    assert after.fingerprint() == before.fingerprint()


@pytest.mark.parametrize("name", READERS)
def test_the_fingerprint_changes_with_files_and_not_with_the_place(copied, tmp_path, name):
    root = copied(name)
    before = open_copy(name, root).fingerprint()
    root = root.rename(tmp_path / "elsewhere")
    assert open_copy(name, root.parent if name not in ("potsdam",) else root).fingerprint() == before  # or nested
    path = root / READERS[name].files[-1]
    if path.suffix == ".png":
        pixels = np.asarray(Image.open(path)).copy()
        Image.fromarray(np.flipud(pixels)).save(path)
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert open_copy(name, root).fingerprint() != before


@pytest.mark.parametrize("name", READERS)
def test_an_unknown_scene_or_split_proposes_the_nearest(written, name):
    dataset, scene = open_copy(name, written(name)), READERS[name].scene
    with pytest.raises(ValueError, match=rf"no scene '{scene}9'\. Did you mean '"):
        dataset.read(f"{scene}9")
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        dataset.ids("trian")
    with pytest.raises(ValueError, match="there is no parameter 'splits'"):
        open_dataset(DataConfig(dataset=name, root=str(written(name)), options={"splits": "x"}))
