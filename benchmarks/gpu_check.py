"""Check on a CUDA machine, within eight minutes, that training computes there what it computes on a CPU, and how fast.

    PYTHONPATH=. python benchmarks/gpu_check.py [REPORT.json] [--methods NAME,...]

Needs torch, torchvision, timm, pandas, pydantic, safetensors, scipy, pillow, tqdm: no notebook, no plotting. Without a
GPU it runs on the CPU, but for the waits, and for bf16 where the CPU has none: that checks the script alone.

1. Every method takes four steps in fp32 and in bf16 on a toy dataset. In fp32 they are compared with the record of a
   CPU, ``tests/golden/golden.json``; in bf16 the losses of the first step are to be within 5 % of it.
2. A step of CroDiNo-KD against two steps of the baseline, at the size of the dials and at 320x240.
3. Places at which the host waits for the device inside a step (``torch.cuda.set_sync_debug_mode``).
4. Three small runs at once on one device, against one after the other.

What is finished is printed and saved at once, so that a lost machine loses one row.
"""

import crodino_lib.losses  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import argparse
import json
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from crodino_lib.augment import augment
from crodino_lib.config import RunConfig, StudyConfig
from crodino_lib.device import autocast, describe, pick_device, resolve_precision
from crodino_lib.methods.base import Method
from crodino_lib.methods.registry import METHODS, build_method
from crodino_lib.study.dials import BASE
from tests.golden.comparison import differences
from tests.golden.recording import case, golden, method_of, record, toy_card, toy_scenes

BF16 = 0.05  # by which losses of the first step in bf16 may differ from the record
SLACK = 4  # times the tolerance that other CPUs need
STEPS, BATCH = 12, 8
SIZES = ((64, 96), (240, 320))  # (H, W) of the dials, and of a real dataset
PAIR = ("rgb", "depth")


def main() -> None:
    """Make every check, and save the report after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--methods", default=",".join(METHODS), help="(default all)")
    options = parser.parse_args()
    device = pick_device()
    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    report = {"device": describe(device), **versions, "methods": {}, "steps": {}, "waits": {}}
    print(report["device"], versions)

    def keep(part: str, name: str, found: object) -> None:
        report[part][name] = found
        options.report.write_text(json.dumps(report, indent=1))
        print(f"{part} | {name} | {found}", flush=True)

    names = options.methods.split(",")
    for name in names:
        keep("methods", name, guarded(lambda name=name: against_record(name)))
    for size in SIZES:
        keep("steps", f"{size[1]}x{size[0]}", guarded(lambda size=size: step_ratio(size, device)))
    keep("steps", "three runs at once, times as fast", guarded(lambda: shared_device(device)))
    for name in names if device.type == "cuda" else ():
        keep("waits", name, guarded(lambda name=name: waits(name, device)))
    wrong = [name for name, found in report["methods"].items() if isinstance(found, str) or found["wrong"]]
    print(f"{len(names) - len(wrong)} of {len(names)} methods as recorded" + f"; not: {', '.join(wrong)}" * bool(wrong))
    sys.exit(bool(wrong))


def guarded(check: Callable[[], object]) -> object:
    """Return what a check finds, or the last line of its error: the others are still to be made."""
    try:
        return check()
    except Exception:
        return traceback.format_exc().splitlines()[-1]


def against_record(name: str) -> dict:
    """Train a method in both precisions, and compare both with the record."""
    recorded = next(one for one in golden()["cases"] if one["case"] == case(name, PAIR)["case"])
    with tempfile.TemporaryDirectory() as folder:
        found = record(case(name, PAIR), Path(folder))
        half = record(case(name, PAIR) | {"precision": resolve_precision("auto", pick_device())}, Path(folder))
    wrong = differences({part: recorded[part] for part in found}, found, SLACK)
    first, theirs = recorded["steps"][0]["terms"], half["steps"][0]["terms"]
    wrong += [
        f"half precision {term}: {theirs[term]:.4g}, recorded {value:.4g}"
        for term, value in first.items()
        if not abs(theirs[term] - value) <= BF16 * abs(value) + 1e-3
    ]
    return {"wrong": wrong[:8], "first losses": {term: round(value, 4) for term, value in theirs.items()}}


def built(name: str, device: torch.device) -> Method:
    """Return a method with the networks of the dials, on the device."""
    sensors = PAIR[: METHODS[name].build.sensor_count]
    config = RunConfig(method=name, sensors=sensors, model=StudyConfig.parse(BASE).model)
    return build_method(config, toy_card()).to(device, memory_format=torch.channels_last).train()


def batches(method: Method, size: tuple[int, int], device: torch.device) -> Callable[[], object]:
    """Return what augments a batch of toy scenes, enlarged to (H, W)."""
    scenes, generator = toy_scenes(BATCH, seed=1), torch.Generator().manual_seed(0)
    rows, columns = ([i * old // new for i in range(new)] for old, new in zip((48, 64), size, strict=True))
    for arrays in (scenes.images, scenes.valid):
        for name, values in arrays.items():
            arrays[name] = values[:, :, rows][:, :, :, columns]
    scenes.labels = scenes.labels[:, rows][:, :, columns]
    regime, sensors = method.augmentation, method.batch_sensors
    return lambda: augment(scenes, list(range(BATCH)), method.card, sensors, regime, generator, device)


def step_seconds(name: str, size: tuple[int, int], device: torch.device) -> float:
    """Return the median seconds of a step after the first three, in the precision that the device is given."""
    method, taken = built(name, device), []
    batch, optimiser = batches(method, size, device), torch.optim.AdamW(method.parameters(), 1e-4)
    for _ in range(STEPS):
        _wait(device)
        started = time.perf_counter()
        with autocast(device, resolve_precision("auto", device)):
            terms = method(batch(), 0.5)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        _wait(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[3:])


def step_ratio(size: tuple[int, int], device: torch.device) -> dict:
    """Compare a step of CroDiNo-KD with a step of the baseline of each sensor."""
    alone, both = step_seconds("baseline", size, device), step_seconds("crodino-kd", size, device)
    return {"baseline ms": 1000 * alone, "crodino-kd ms": 1000 * both, "crodino-kd / two baselines": both / (2 * alone)}


def shared_device(device: torch.device) -> float:
    """Return how many times as fast three small runs are at once, in threads, as one after the other."""
    started = time.perf_counter()
    for _ in range(3):
        step_seconds("baseline", SIZES[0], device)
    in_turn, started = time.perf_counter() - started, time.perf_counter()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(step_seconds, ["baseline"] * 3, [SIZES[0]] * 3, [device] * 3))
    return in_turn / (time.perf_counter() - started)


def waits(name: str, device: torch.device) -> dict[str, int]:
    """Return the places, in our files, at which the host waits for the device inside a step, with their numbers."""
    with tempfile.TemporaryDirectory() as folder:
        method = method_of(case(name, PAIR), Path(folder)).to(device).train()
    batch, found = batches(method, (48, 64), device), {}

    def note(message: Warning | str, *_: object, **__: object) -> None:
        if "synchroniz" in str(message):
            ours = [frame for frame in traceback.extract_stack() if "/crodino_lib/" in frame.filename]
            place = f"{ours[-1].filename.split('/crodino_lib/')[1]}:{ours[-1].lineno}" if ours else "torch"
            found[place] = found.get(place, 0) + 1

    for counted in (False, True):  # the first step fills caches
        given, optimiser = batch(), torch.optim.AdamW(method.parameters(), 1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = note if counted else lambda *_, **__: None
            torch.cuda.set_sync_debug_mode("warn")
            try:
                torch.stack(list(method(given, 0.5).values())).sum().backward()
                optimiser.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
