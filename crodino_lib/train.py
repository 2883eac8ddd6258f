"""Train a method: one loop, read from top to bottom.

Every random draw comes from the run's seed and the number of the step, never from what was drawn before, so a run
resumed at any step ends exactly as if it had not been interrupted. What is measured while training (operations,
gradient norms, latents for the film) is measured by callbacks, which draw no random number; of their time only that of
counting operations, in about sixteen steps, is in the run's seconds.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from crodino_lib.augment import augment
from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, Scenes, SensorSet
from crodino_lib.device import autocast, describe, peak_memory, pick_device, reset_peak_memory, resolve_precision
from crodino_lib.evaluate import evaluate, scores
from crodino_lib.io import bar, headless, say
from crodino_lib.methods.base import Method
from crodino_lib.settings import load_object
from crodino_lib.training import Callback, Training, seeded

RESUME_EVERY_S = 60.0
SAY_EVERY_S = 10.0  # of a log, that a long step is not taken for the end
LIVE_CURVE = "crodino_lib.figures.live:show_curves"  # an optional package: imported in a live notebook alone


@dataclass
class Trained:
    """The result of a training.

    ``history`` has one row per epoch: mean loss terms, learning rate, validation mIoU per student, seconds, and extra
    values of the method and of callbacks.
    """

    students: dict[str, dict[str, Tensor]]  # name -> state dict of the student's own best epoch on the validation split
    history: pd.DataFrame
    cost: dict[str, Any]  # wall seconds, steps, peak memory, precision, device, best epoch of each student


def train(
    method: Method,
    scenes: Scenes,
    validation: Scenes,
    config: RunConfig,
    resume_file: Path,
    callbacks: Sequence[Callback] = (),
    resume_every_s: float = RESUME_EVERY_S,
) -> Trained:
    """Train ``method``, or continue from ``resume_file``.

    Args:
        method: built from ``config``; trained in place.
        scenes: the training split.
        validation: the split that chooses the epoch.
        resume_file: written at every epoch's end and every ``resume_every_s`` seconds; the caller removes it.
        resume_every_s: 0 writes a resume file after every step.

    Raises:
        ValueError: the training split is smaller than two scenes, or the loss is no longer finite.
    """
    if len(scenes) < 2:
        raise ValueError(f"the training split has {len(scenes)} scene(s); BatchNorm needs at least 2")
    device = pick_device()
    method = method.to(device, memory_format=torch.channels_last)
    precision = resolve_precision(config.train.precision, device)
    training = Training(method, config, scenes, validation, device, precision, callbacks)
    if resume_file.exists():
        training.load(resume_file)

    reset_peak_memory(device)
    training.call("on_start")
    label = f"{config.method} {SensorSet(config.sensors)} seed {config.seed}"
    progress = bar(total=training.total_steps, initial=training.step, label=label, unit="step")
    saved_at = said_at = time.monotonic()
    while training.step < training.total_steps:
        batch = next_batch(training)
        method.train()
        with training.observed_pass(), autocast(device, training.precision):
            terms = method(batch, training.step / training.total_steps)
        training.call("on_terms", terms)
        loss, values = finite_sum(terms, training.step, batch.ids)
        training.optimiser.zero_grad(set_to_none=True)
        with training.observed_pass():
            loss.backward()
        for part in separately_trained(method):  # a student is clipped alike, whatever is trained beside it
            torch.nn.utils.clip_grad_norm_(part, config.train.clip_norm)
        training.optimiser.step()
        training.schedule.step()

        for name, value in values.items():
            training.sums[name] = training.sums.get(name, 0.0) + value
        training.peak = max(training.peak, peak_memory(device))
        epochs, training.step = training.epoch, training.step + 1
        progress.update()
        epoch_ends = training.epoch > epochs
        if epoch_ends:
            end_epoch(training)
            show_epoch(progress, label, training)
            said_at = time.monotonic()
        elif headless() and time.monotonic() - said_at >= SAY_EVERY_S:
            say(f"{label} | step {training.step}/{training.total_steps}")
            said_at = time.monotonic()
        training.count_seconds()
        if epoch_ends or time.monotonic() - saved_at >= resume_every_s:
            training.save(resume_file)
            saved_at = time.monotonic()
    progress.close()
    return finish(training)


def next_batch(training: Training) -> Batch:
    """Return the augmented batch of the current step, and seed what the step draws besides (dropout, choices)."""
    method, seed, step = training.method, training.config.seed, training.step
    generator = seeded(seed, f"augmentation of step {step}")
    sensors, regime = method.batch_sensors, method.augmentation
    batch = augment(training.scenes, training.indices(), method.card, sensors, regime, generator, training.device)
    torch.manual_seed(seeded(seed, f"dropout of step {step}").initial_seed())
    return batch


def finite_sum(terms: dict[str, Tensor], step: int, ids: list[str]) -> tuple[Tensor, dict[str, float]]:
    """Return the sum of the loss terms and their values; ValueError where a term is not finite names it and the batch.

    Reading the values waits for the device, once a step.
    """
    stacked = torch.stack(list(terms.values()))
    values = dict(zip(terms, stacked.tolist(), strict=True))
    if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
        found = f"{' and '.join(wrong)} is not finite at step {step}, where the loss is {values}"
        hint = "Look at these scenes, lower learning_rate, or set precision to 'fp32'"
        raise ValueError(f"{found}. The batch: {', '.join(ids)}. {hint}. The state saved before is kept")
    return stacked.sum(), values


def end_epoch(training: Training) -> None:
    """Validate, keep the best weights of each student, and add the epoch to the history."""
    row = {"epoch": training.epoch, "learning_rate": training.schedule.get_last_lr()[0]}
    row |= {name: total / training.steps_of_epoch() for name, total in training.sums.items()}
    row |= training.method.diagnostics() | validate(training)
    for extra in training.call("on_epoch_end"):
        row |= extra
    training.count_seconds()
    training.history.append(row | {"seconds": training.seconds})
    training.sums = {}


def validate(training: Training) -> dict[str, float]:
    """Return the validation mIoU of every student, and keep the weights of those that reach their best."""
    method, device, row = training.method, training.device, {}
    method.eval().export()
    for name, student in method.students.items():
        sensors, batch_size = SensorSet.parse(name), training.config.train.batch_size
        with autocast(device, training.precision):
            matrix = evaluate(method.predict, training.validation, method.card, sensors, batch_size, device)
        miou = scores(matrix)["miou"]
        if math.isnan(miou):
            raise ValueError("the validation split has no labelled pixel, so no epoch can be chosen")
        row[f"val_miou/{name}"] = miou
        if name not in training.best or miou > training.best[name]["miou"]:
            weights = {key: value.detach().cpu().clone().contiguous() for key, value in student.state_dict().items()}
            training.best[name] = {"miou": miou, "weights": weights, "epoch": training.epoch}
    return row


def finish(training: Training) -> Trained:
    """Load the best weights into the students, and return them with history and cost."""
    students = {name: best["weights"] for name, best in training.best.items()}
    for name, weights in students.items():
        training.method.students[name].load_state_dict(weights)
    cost = {
        "train_seconds": training.seconds,
        "peak_memory_bytes": training.peak,
        "precision": training.precision,
        "device": describe(training.device),
        "steps": training.total_steps,
        "scenes": {name: len(pool) for name, (pool, _) in training.pools.items()},
        "best_epoch": {name: best["epoch"] for name, best in training.best.items()},
    }
    return Trained(students, pd.DataFrame(training.history), cost)


def separately_trained(method: Method) -> list[list[Tensor]]:
    """Return the trained parameters of each student, and of all else that is trained with them."""
    students = [[p for p in student.parameters() if p.requires_grad] for student in method.students.values()]
    mine = {id(parameter) for part in students for parameter in part}
    return [*students, [p for p in method.parameters() if p.requires_grad and id(p) not in mine]]


def show_epoch(progress: tqdm, label: str, training: Training) -> None:
    """Show an epoch in the bar and, in a live notebook, in a figure; where there is neither, print it as a line."""
    row, prefix = training.history[-1], "val_miou/"
    mious = {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
    text = "validation mIoU " + ", ".join(f"{name} {100 * value:.1f}" for name, value in mious.items())
    progress.set_postfix_str(text)
    if headless():
        say(f"{label} | epoch {row['epoch']:>3}/{training.epochs} | {text} | {row['seconds']:.0f} s")
    elif "ipykernel" in sys.modules:
        load_object(LIVE_CURVE)(label, training.history)
