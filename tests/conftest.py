"""What every test needs: the torchvision guard, few threads, a dataset in memory and one on disk."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # and so has every notebook's kernel: threads would wait for each other

from crodino_lib._torchvision import import_torchvision

import_torchvision()  # first: torchmetrics imports it

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from crodino_lib.data.sample import IGNORE, RGB, DatasetCard, Scenes, Sensor  # noqa: E402

WIDTH, HEIGHT = 48, 40  # unequal, so that a missed transpose shows
TOML = """
name = "mini"
classes = ["wall", "floor", "ball"]
rgb = { dir = "RGB" }
label = { dir = "Label", offset = -1 }
splits = { train = "train.txt", test = "test.txt" }
val_fraction = 0.25
[sensors.depth]
dir = "Depth"
kind = "u16"
scale = 0.001
unit = "m"
invalid = [0]
mean = [2.5]
std = [1.0]
"""
TRAIN = [f"{i:04d}" for i in (*range(1, 5), *range(11, 14), *range(21, 24), 31, 32, 41, 42)]
TEST = ["0005", "0006", "0043"]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tests run in parallel processes; more threads than cores only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def chromium():
    """The system's browser, driven by Playwright; skips where either is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        pytest.skip("no chromium on this machine")
    flags = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-component-update", "disable-sync")
    quiet = [f"--{flag}" for flag in (*flags, "disable-background-networking")]  # it asks for nothing of its own
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--headless", *quiet])
        yield browser
        browser.close()


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory):
    """No test, and no fixture of a module, reads or writes the user's results."""
    os.environ["CRODINO_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("CRODINO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def toy_card() -> DatasetCard:
    """Four classes seen by three sensors."""
    return DatasetCard(
        name="toy",
        title="Toy",
        sensors={
            "rgb": RGB,
            "depth": Sensor(1, "metres", (3.0,), (1.0,)),
            "thermal": Sensor(1, "degrees C", (20.0,), (5.0,)),
        },
        classes=("floor", "box", "ball", "lamp"),
        palette=((80, 80, 80), (200, 80, 0), (0, 120, 200), (240, 220, 60)),
        splits=("train", "val", "test"),
        native_size=(64, 48),
        licensed=False,
    )


@pytest.fixture(scope="session")
def toy_scenes(toy_card) -> Scenes:
    """Sixteen scenes of blocks: each class has a colour, a distance and a temperature of its own, plus noise."""
    generator = np.random.default_rng(0)
    count, height, width = 16, 48, 64
    coarse = generator.integers(len(toy_card.classes), size=(count, 3, 4))
    labels = coarse.repeat(16, axis=1).repeat(16, axis=2).astype(np.uint8)
    noise = generator.normal(size=(count, 1, height, width))
    colours = np.asarray(toy_card.palette)[labels].transpose(0, 3, 1, 2)
    depth = 1.5 + labels[:, None] + 0.1 * noise
    holes = generator.random(depth.shape) < 0.05
    ignored = labels.copy()
    ignored[:, :2] = IGNORE
    return Scenes(
        images={
            "rgb": np.clip(colours + 8 * noise, 0, 255).astype(np.uint8),
            "depth": np.where(holes, 0, depth).astype(np.float16).astype(np.float32),
            "thermal": (15 + 4 * labels[:, None] + noise).astype(np.float16).astype(np.float32),
        },
        valid={"depth": ~holes, "thermal": np.ones_like(holes)},
        labels=ignored,
        ids=[f"{i:04d}" for i in range(count)],
        factors=pd.DataFrame({"room_width_m": generator.random(count)}),
    )


@pytest.fixture
def save() -> Callable:
    """``save(path, array)`` writes a picture whose type and channels are the array's."""

    def save(path: Path, array: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
        return path

    return save


@pytest.fixture
def mini(tmp_path, save) -> Path:
    """A folder dataset: 14 training and 3 test scenes, 16-bit depth in mm with holes, labels 1..3 and 0 = ignore."""
    root, generator = tmp_path / "mini", np.random.default_rng(0)
    for scene_id in TRAIN + TEST:
        depth = generator.integers(500, 4500, (HEIGHT, WIDTH), dtype=np.uint16)
        depth[generator.random(depth.shape) < 0.3] = 0
        save(root / f"RGB/{scene_id}.jpg", generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        save(root / f"Depth/{scene_id}.png", depth)
        save(root / f"Label/{scene_id}.png", generator.integers(0, 4, (HEIGHT, WIDTH), dtype=np.uint8))
    (root / "train.txt").write_text("\n".join(TRAIN))
    (root / "test.txt").write_text("\n".join(TEST))
    (root / "dataset.toml").write_text(TOML)
    return root
