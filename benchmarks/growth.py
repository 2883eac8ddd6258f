"""Measure how rendering, decoding, latents and tables grow when there is sixteen times as much to do.

    python benchmarks/growth.py [SCENES]

SCENES (default 24) are rendered and decoded, then sixteen times as many; latents are extracted from as many scenes, and
tables are made of two runs and of sixteen times two. Prints seconds and how many times as long the large amount takes:
16 is linear, less has a fixed part. One run on one machine; run nothing else beside it.
"""

import crodino_lib.losses  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from crodino_lib.analysis.extraction import extract
from crodino_lib.config import StudyConfig
from crodino_lib.data.registry import DATASETS
from crodino_lib.data.scene_cache import load_scenes
from crodino_lib.methods.registry import build_method
from crodino_lib.study.runs import finished_run
from crodino_lib.study.study import Study
from crodino_lib.study.tables import save_tables

FACTOR = 16


def seconds(act: Callable) -> float:
    """Return how long ``act`` takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def of_scenes(count: int) -> dict[str, float]:
    """Return the seconds of rendering, decoding and extracting latents of so many scenes, in a cache of their own."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CRODINO_CACHE"] = cache
        config = StudyConfig.parse({"profile": "smoke", "study": "growth", "scenes": [count, 1, 1]})
        found = {"render": seconds(lambda: DATASETS["rooms"].open(config.data))}
        dataset = DATASETS["rooms"].open(config.data)
        found["decode"] = seconds(lambda: load_scenes(dataset, "train", config.data, ("rgb", "depth")))
        scenes = load_scenes(dataset, "train", config.data, ("rgb", "depth"))
        study = Study(config, Path(cache))
        method = build_method(study.run_config("crodino-kd"), study.card)
        method.eval().export()
        return found | {"latents": seconds(lambda: extract(method, scenes))}


def of_runs(study: Study, count: int) -> float:
    """Return the seconds of the tables of so many runs, copies of one with other seeds."""
    original = study.run("baseline", ("rgb",))
    for seed in range(1, count):
        copy = original.folder.with_name(f"{seed}-{original.folder.name.partition('-')[2]}")
        shutil.copytree(original.folder, copy, dirs_exist_ok=True)
        record = json.loads((copy / "run.json").read_text())
        record["config"]["seed"] = seed
        (copy / "run.json").write_text(json.dumps(record))
    runs = [finished_run(file.parent) for file in sorted(study.folder.glob("runs/*/*/*/run.json"))]
    return seconds(lambda: save_tables(runs, study.folder / "tables", ""))


def main() -> None:
    """Measure both amounts and print them."""
    small = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    of_scenes(2)  # what is imported and compiled once is not measured
    few, many = of_scenes(small), of_scenes(FACTOR * small)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CRODINO_CACHE"] = str(Path(folder, "cache"))
        study = Study(StudyConfig.parse({"profile": "smoke", "study": "growth"}), Path(folder))
        few["tables"], many["tables"] = of_runs(study, 2), of_runs(study, FACTOR * 2)
    print(f"{small} and {FACTOR * small} scenes, 2 and {FACTOR * 2} runs, {os.cpu_count()} cores")
    for name, begun in few.items():
        print(f"{name:8} {begun:7.2f} s  {many[name]:7.2f} s  {many[name] / begun:5.1f} times as long")


if __name__ == "__main__":
    main()
