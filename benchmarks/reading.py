"""What reading costs: a batch from the warm cache beside a training step, and the first decoding beside a plain loop.

    python benchmarks/reading.py ROOT [SCENES]

ROOT is a copy of NYU Depth v2 in the tree of 8 bits, read at its own 640x480 pixels; SCENES (default 200) are decoded.
Prints seconds and ratios from one run on one machine. Nothing else should run beside it.
"""

import crodino_lib.losses  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import os
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
from crodino_lib.data.registry import DATASETS
from crodino_lib.data.scene_cache import load_scenes
from crodino_lib.methods.registry import build_method
from crodino_lib.train import seeded

BATCH, STEPS, SENSORS = 8, 3, ("rgb", "depth")


def open_files(scenes: list[list[Path]]) -> int:
    """Open every picture with Pillow, and do nothing with it."""
    return sum(np.asarray(Image.open(path)).nbytes for files in scenes for path in files)


def plain_loop(scenes: list[list[Path]], target: Path) -> None:
    """What anybody would write: open with Pillow, make the arrays that networks need, save them."""
    shape = (len(scenes), 480, 640)
    rgb, depth = np.empty((*shape, 3), np.uint8), np.empty(shape, np.float16)
    valid, label = np.empty(shape, bool), np.empty(shape, np.uint8)
    for index, (colours, metres, ids) in enumerate(scenes):
        rgb[index] = np.asarray(Image.open(colours))
        raw = np.asarray(Image.open(metres))
        depth[index], valid[index] = raw.astype(np.float32) / 25.5, raw > 0
        label[index] = np.asarray(Image.open(ids))
    np.savez(target, rgb=rgb.transpose(0, 3, 1, 2), depth=depth, valid=valid, label=label)


def seconds(act) -> float:
    """How long ``act`` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main(root: Path, count: int) -> None:
    """Measure and print."""
    config = DataConfig(dataset="nyu13", root=str(root), size="640x480", scenes=(count, 1, 1), limit=True)
    dataset = DATASETS["nyu13"].open(config)
    dataset.fingerprint()  # of all files, at every start; not part of what is compared
    ids = [dataset.ids("train")[i] for i in np.linspace(0, len(dataset.ids("train")) - 1, count).round().astype(int)]
    kinds = (("rgb", "jpg"), ("depth", "png"), ("label13", "png"))
    files = [[root / f"{folder}/{scene_id}.{ending}" for folder, ending in kinds] for scene_id in ids]
    open_files(files)  # once, so that all find the files in the memory of the system
    cores = os.cpu_count() or 1
    parts = [files[start::cores] for start in range(cores)]
    with ProcessPoolExecutor(cores) as pool, tempfile.TemporaryDirectory() as folder:
        list(pool.map(open_files, [part[:1] for part in parts]))  # starts the processes
        opening = seconds(lambda: list(pool.map(open_files, parts)))
        plain = seconds(lambda: list(pool.map(plain_loop, parts, [Path(folder, f"{k}.npz") for k in range(cores)])))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CRODINO_CACHE"] = cache
        first = seconds(lambda: load_scenes(dataset, "train", config, SENSORS))
        scenes = load_scenes(dataset, "train", config, SENSORS)
        opened = seconds(lambda: load_scenes(dataset, "train", config, SENSORS))
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
    print(f"{count} scenes, {torch.get_num_threads()} threads, {cores} cores")
    print(f"opening all pictures with Pillow, all cores   {opening:7.2f} s")
    print(f"the plain loop to the same arrays, all cores  {plain:7.2f} s")
    print(f"first decoding into the cache                 {first:7.2f} s   {first / plain:.2f} of the plain loop")
    print(f"opening the warm cache                        {opened:7.2f} s")
    print(f"a batch of {BATCH} from the warm cache              {read:7.4f} s   {100 * read / trained:.2f} % of a step")
    print(f"augmenting it                                 {made:7.3f} s   {100 * made / trained:.1f} % of a step")
    print(f"a training step of a baseline on it           {trained:7.3f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
