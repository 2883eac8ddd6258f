"""Hold a training in progress: its state, its resume file, and the callbacks that measure it."""

import contextlib
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Scenes
from crodino_lib.io import atomic_write, say
from crodino_lib.methods.base import Method


class Callback:
    """Measure something while a method trains, without changing the training.

    Attributes:
        state: plain values that belong to the run: stored in the resume file and restored from it.
    """

    def __init__(self):
        self.state: dict[str, Any] = {}

    def on_start(self, training: "Training") -> None:
        """Do something before the first step, also of a resumed run."""

    def on_pass(self, training: "Training") -> contextlib.AbstractContextManager:
        """Return a context for the forward pass, and another for the backward pass, of one step."""
        return contextlib.nullcontext()

    def on_terms(self, training: "Training", terms: dict[str, Tensor]) -> None:
        """Do something with the loss terms of a step, before their backward pass."""

    def on_epoch_end(self, training: "Training") -> dict[str, float]:
        """Return extra values of the epoch for the history."""
        return {}


@dataclass
class Training:
    """A training in progress: what the loop holds, and callbacks read.

    Attributes:
        method: trained in place.
        config: settings of the run.
        scenes: training split.
        validation: split that chooses each student's epoch.
        device: where networks run.
        precision: ``bf16`` or ``fp32``.
        callbacks: measure the training.
        step: steps done.
        seconds: seconds of training and validation, without those of callbacks.
        sums: loss term -> sum over the steps of the epoch.
        history: one row per epoch.
        best: student -> ``miou``, ``weights`` and ``epoch`` of its best epoch.
        peak: most bytes of memory held.
        batch_size: scenes per step.
        steps_per_epoch: whole batches of the training split.
        total_steps: steps of the run.
    """

    method: Method
    config: RunConfig
    scenes: Scenes
    validation: Scenes
    device: torch.device
    precision: str
    callbacks: Sequence[Callback] = ()
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    best: dict[str, dict] = field(default_factory=dict)
    peak: int = 0
    _started: float = 0.0

    SAVED = ("step", "seconds", "precision", "sums", "history", "best", "peak")

    def __post_init__(self):
        self.batch_size = min(self.config.train.batch_size, len(self.scenes))
        self.steps_per_epoch = len(self.scenes) // self.batch_size
        self.total_steps = self.config.train.epochs * self.steps_per_epoch

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.steps_per_epoch

    def start_clock(self) -> None:
        """Count seconds from here on."""
        self._started = time.monotonic() - self.seconds

    def stop_clock(self) -> None:
        """Store the seconds counted so far."""
        self.seconds = time.monotonic() - self._started

    def call(self, event: str, *args: Any) -> list[Any]:
        """Return what every callback returns for an event; the time it takes is not the run's."""
        begun = time.monotonic()
        results = [getattr(callback, event)(self, *args) for callback in self.callbacks]
        self._started += time.monotonic() - begun
        return results

    @contextlib.contextmanager
    def observed_pass(self) -> Iterator[None]:
        """Run a forward or backward pass inside the contexts of all callbacks."""
        with contextlib.ExitStack() as stack:
            for callback in self.callbacks:
                stack.enter_context(callback.on_pass(self))
            yield


def save_resume(path: Path, training: Training, optimiser: torch.optim.Optimizer, schedule: LRScheduler) -> None:
    """Write everything that continuing needs, as tensors and plain values, atomically."""
    with atomic_write(path) as temporary:
        torch.save(
            {
                "training": {name: getattr(training, name) for name in Training.SAVED},
                "callbacks": [callback.state for callback in training.callbacks],
                "method": training.method.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
            },
            temporary,
        )


def load_resume(path: Path, training: Training, optimiser: torch.optim.Optimizer, schedule: LRScheduler) -> None:
    """Restore what ``save_resume`` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        saved = torch.load(path, map_location=training.device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to start this run again") from error
    for name, value in saved["training"].items():  # precision too: another machine may compute in another one
        setattr(training, name, value)
    for callback, state in zip(training.callbacks, saved["callbacks"], strict=True):
        callback.state = state
    training.method.load_state_dict(saved["method"])
    optimiser.load_state_dict(saved["optimiser"])
    schedule.load_state_dict(saved["schedule"])
    say(f"resuming at step {training.step} of {training.total_steps}")
