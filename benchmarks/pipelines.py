"""Measure what it costs to get both students of a study: CroDiNo-KD against the whole pipelines of its rivals.

    python benchmarks/pipelines.py [STEPS]

A pipeline with a teacher trains the teacher once, then a student per sensor. Counts the operations of a training step
(forward, backward, a frozen teacher's forward) and takes the median seconds of STEPS steps (default 8) at each of four
places of the run, on made-up scenes of the size of the dials, with random weights: neither changes the cost. All stages
have equally many steps. Prints each pipeline and its ratio to CroDiNo-KD's. Run nothing else beside it.
"""

import crodino_lib.losses  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from crodino_lib.config import RunConfig, StudyConfig, parse_size
from crodino_lib.cost import counted_flops
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.methods.registry import build_method
from crodino_lib.study.dials import BASE
from crodino_lib.study.study import Study
from crodino_lib.train import Training, finite_sum, next_batch

SCENES, LABELLED = 24, 12
PLACES = (0.05, 0.3, 0.55, 0.8)  # of the run: MasKD learns its masks in the first quarter
PIPELINES = {  # name -> stages: method, sensors
    "CroDiNo-KD": [("crodino-kd", ("rgb", "depth"))],
    "two baselines": [("baseline", ("rgb",)), ("baseline", ("depth",))],
    "KD": [("acnet", ("rgb", "depth")), ("kd", ("rgb",)), ("kd", ("depth",))],
    "ProtoKD": [("acnet", ("rgb", "depth")), ("protokd", ("rgb",)), ("protokd", ("depth",))],
    "MasKD": [("acnet", ("rgb", "depth")), ("maskd", ("rgb",)), ("maskd", ("depth",))],
}


def made_up(card: DatasetCard, width: int, height: int) -> Scenes:
    """Return noise of every sensor, with labels of every class."""
    generator, shape = np.random.default_rng(0), (SCENES, height, width)
    images, valid = {}, {}
    for name, sensor in card.sensors.items():
        images[name] = generator.random((SCENES, sensor.channels, height, width)).astype(np.float32)
        if name == "rgb":
            images[name] = (255 * images[name]).astype(np.uint8)
        else:
            valid[name] = np.ones((SCENES, 1, height, width), bool)
    labels = generator.integers(len(card.classes), size=shape).astype(np.uint8)
    return Scenes(images, valid, labels, [str(index) for index in range(SCENES)])


def step_cost(config: RunConfig, scenes: Scenes, card: DatasetCard, steps: int) -> tuple[float, float]:
    """Return the operations and the median seconds of a training step, as means over ``PLACES``."""
    flops, seconds = [], []
    for place in PLACES:
        method = build_method(config, card).to(memory_format=torch.channels_last).train()
        training = Training(method, config, scenes, scenes, torch.device("cpu"), "fp32")
        training.step, taken = round(place * training.total_steps), []
        for index in range(steps + 2):
            started = time.perf_counter()
            if index:
                step(training, place)
            else:
                with counted_flops(method) as counts:
                    step(training, place)
                flops.append(counts["total"])
            training.optimiser.step()
            training.optimiser.zero_grad(set_to_none=True)
            taken.append(time.perf_counter() - started)
        seconds.append(statistics.median(taken[2:]))
    return statistics.mean(flops), statistics.mean(seconds)


def step(training: Training, place: float) -> None:
    """Make the forward and the backward pass of a step, at this fraction of the run."""
    batch = next_batch(training)
    loss, _ = finite_sum(training.method(batch, place), training.step, batch.ids)
    loss.backward()


def main() -> None:
    """Measure every stage once and print the pipelines."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    config = StudyConfig.parse(
        {**BASE, "study": "pipelines", "labelled": LABELLED, "scenes": [SCENES] * 3, "weights": "none"}
    )
    with tempfile.TemporaryDirectory() as folder:
        study = Study(config, Path(folder))
        scenes = made_up(study.card, *parse_size(config.data.size))
        stages = dict.fromkeys(stage for pipeline in PIPELINES.values() for stage in pipeline)
        costs = {stage: step_cost(study.run_config(*stage), scenes, study.card, steps) for stage in stages}
    totals = {name: np.sum([costs[stage] for stage in pipeline], axis=0) for name, pipeline in PIPELINES.items()}
    ours = totals["CroDiNo-KD"]
    print(f"{config.data.size}, {torch.get_num_threads()} threads; one step of every stage")
    for name, (flops, seconds) in totals.items():
        ratios = f"CroDiNo-KD takes {ours[0] / flops:.2f} of its operations, {ours[1] / seconds:.2f} of its time"
        print(f"{name:14} {flops / 1e9:7.1f} GFLOPs {seconds:7.2f} s   {ratios}")


if __name__ == "__main__":
    main()
