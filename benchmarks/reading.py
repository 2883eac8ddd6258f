"""What reading costs: a batch from the warm cache beside a training step, and the first decoding beside a plain loop.

    python benchmarks/reading.py ROOT [SCENES]

ROOT is a copy of NYU Depth v2 in the tree of 8 bits, read at its own 640x480 pixels; SCENES (default 200) are decoded.
Prints seconds and ratios from one run on one machine. Nothing else should run beside it.
"""

import crodino_lib  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from crodino_lib.augment import augment
from crodino_lib.config import DataConfig, RunConfig
from crodino_lib.data.memory import load_scenes
from crodino_lib.data.registry import DATASETS
from crodino_lib.methods.registry import build_method
from crodino_lib.train import seeded

BATCH, STEPS, SENSORS = 8, 5, ("rgb", "depth")


def decode_files(paths: list[Path]) -> int:
    """What anybody would write: open every picture with Pillow."""
    return sum(np.asarray(Image.open(path)).nbytes for path in paths)


def seconds(act) -> float:
    """How long ``act`` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main(root: Path, count: int) -> None:
    """Measure and print."""
    config = DataConfig(dataset="nyu13", root=str(root), size="640x480", scenes=(count, 1, 1), limit=True)
    dataset = DATASETS["nyu13"].open(config)
    ids = [dataset.ids("train")[i] for i in np.linspace(0, len(dataset.ids("train")) - 1, count).round().astype(int)]
    files = [root / f"{d}/{i}.{e}" for i in ids for d, e in (("rgb", "jpg"), ("depth", "png"), ("label13", "png"))]
    decode_files(files)  # once, so that both find the files in the memory of the system
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        parts = [files[start :: os.cpu_count()] for start in range(os.cpu_count())]
        list(pool.map(decode_files, [[path] for path in files[: os.cpu_count()]]))  # starts the processes
        plain = seconds(lambda: list(pool.map(decode_files, parts)))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CRODINO_CACHE"] = cache
        first = seconds(lambda: load_scenes(dataset, "train", config, SENSORS, progress=False))
        scenes = load_scenes(dataset, "train", config, SENSORS, progress=False)
        opened = seconds(lambda: load_scenes(dataset, "train", config, SENSORS, progress=False))
        method = build_method(RunConfig(method="baseline", sensors=("rgb",), data=config), dataset.card).train()
        optimiser = torch.optim.AdamW(method.parameters())
        read, made, trained = [], [], []
        for step in range(STEPS):
            indices = list(range(step * BATCH, (step + 1) * BATCH))
            read.append(seconds(lambda i=indices: [scenes.images[s][i] for s in SENSORS] + [scenes.labels[i]]))
            generator = seeded(step, "benchmark")
            device = torch.device("cpu")
            start = time.perf_counter()
            batch = augment(scenes, indices, dataset.card, ("rgb",), "decoupled", generator, device)
            made.append(time.perf_counter() - start)
            start = time.perf_counter()
            loss = sum(method.training_step(batch, step / STEPS).values())
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            trained.append(time.perf_counter() - start)
    read, made, trained = (statistics.median(part) for part in (read, made, trained))
    print(f"{count} scenes, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    print(f"plain Pillow loop over all cores      {plain:7.2f} s")
    print(f"first decoding into the cache         {first:7.2f} s   {first / plain:.2f} of the loop")
    print(f"opening the warm cache                {opened:7.2f} s")
    print(f"a batch of {BATCH} from the warm cache      {read:7.3f} s   {100 * read / trained:.1f} % of a step")
    print(f"augmenting it                         {made:7.3f} s   {100 * made / trained:.1f} % of a step")
    print(f"a training step of a baseline on it   {trained:7.3f} s")
    shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
