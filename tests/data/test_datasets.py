"""What every dataset of the registry promises, on a miniature of it."""

import numpy as np
import pytest
import torch
from miniatures import kp, mfnet, midair, potsdam, pst900

from crodino_lib.augment import augment
from crodino_lib.config import DataConfig, RunConfig
from crodino_lib.data.registry import DATASETS, open_dataset
from crodino_lib.data.sample import RGB, check_sample
from crodino_lib.data.scene_cache import load_scenes, resize_sample
from crodino_lib.methods.registry import build_method
from crodino_lib.train import seeded

MINIATURES = {"nyu13": "mini_nyu", "nyu40": "mini_nyu", "folder": "mini"}  # fixture, or else a writer, of one
WRITERS = {
    "potsdam": potsdam.write,
    "mfnet": mfnet.write,
    "kp": kp.write,
    "midair": midair.write,
    "pst900": pst900.write,
}
OPTIONS = {"potsdam": {"tile_px": 32}}  # tiles of 6000 pixels are 48 wide in a miniature

pytestmark = pytest.mark.filterwarnings("ignore::crodino_lib.data.layouts.DataWarning")  # miniatures have few scenes


@pytest.fixture(params=DATASETS)
def config(request, tmp_path) -> DataConfig:
    name, root = request.param, ""
    if name in MINIATURES:
        root = str(request.getfixturevalue(MINIATURES[name]))
    elif name in WRITERS:
        root = str(WRITERS[name](tmp_path / name))
    options = OPTIONS.get(name, {})
    return DataConfig(dataset=name, root=root, size="48x32", scenes=(3, 1, 2), limit=bool(root), options=options)


@pytest.fixture
def dataset(config):
    return open_dataset(config)


def test_a_dataset_keeps_what_every_dataset_promises(config, dataset):
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


def test_no_sensor_loses_a_thousandth_of_its_deviation_in_the_cache(config, dataset):
    for split in dataset.card.splits:
        scenes = load_scenes(dataset, split, config, tuple(dataset.card.sensors))
        for index, scene_id in enumerate(scenes.ids):
            small = resize_sample(dataset.read(scene_id), (48, 32))
            for name, sensor in dataset.card.sensors.items():
                lost = np.abs(small[name].astype(np.float64) - scenes.images[name][index]).max()
                assert lost <= min(sensor.std) / 1000


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.needs_root])
def test_a_dataset_on_disk_asks_for_its_root(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name}.*needs root"):
        open_dataset(DataConfig(dataset=name))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_dataset(DataConfig(dataset=name, root=str(tmp_path / "nowhere")))


def test_a_row_of_two_sensors_trains_on_it(config, dataset):
    """One step of CroDiNo-KD on whatever the sensors are called, and finite gradients."""
    sensors = tuple(dataset.card.sensors)[:2]
    scenes = load_scenes(dataset, "train", config, sensors)
    method = build_method(RunConfig(method="crodino-kd", sensors=sensors, data=config), dataset.card).train()
    batch = augment(scenes, [0, 1], dataset.card, sensors, "decoupled", seeded(0, "test"), torch.device("cpu"))
    terms = method.training_step(batch, 0.5)
    torch.stack(list(terms.values())).sum().backward()
    assert {f"segmentation/{sensor}" for sensor in sensors} <= set(terms)
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
