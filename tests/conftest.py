"""What every test needs: the torchvision guard, few threads, and a dataset made in memory."""

import os
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")  # and so has every notebook's kernel: threads would wait for each other

from crodino_lib._torchvision import import_torchvision

import_torchvision()  # first: torchmetrics imports it

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from crodino_lib.data.sample import IGNORE, RGB, DatasetCard, Scenes, Sensor  # noqa: E402


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


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """No test reads or writes the user's cache or results."""
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
