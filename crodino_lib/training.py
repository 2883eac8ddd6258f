"""Hold a training in progress: its scenes, its state, its resume file, and the callbacks that measure it."""

import contextlib
import hashlib
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from crodino_lib.config import RunConfig, TrainConfig
from crodino_lib.data.sample import Scenes
from crodino_lib.io import atomic_write, say
from crodino_lib.methods.base import Method


class Callback:
    """Measure something while a method trains, without changing the training."""

    def __init__(self):
        self.stored = True  # whether a resume file has its state; without, it may come and go with a resumption
        self.state: dict[str, Any] = {}  # plain values of the run: stored in the resume file and restored from it

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
    """A training in progress: what the loop holds, and callbacks read."""

    method: Method  # trained in place
    config: RunConfig
    scenes: Scenes  # training split; labels that the run may not use are hidden
    validation: Scenes  # split that chooses each student's epoch
    device: torch.device
    precision: str  # bf16 or fp32
    callbacks: Sequence[Callback] = ()
    step: int = 0  # steps done
    seconds: float = 0.0  # of training and validation, without those of callbacks
    sums: dict[str, float] = field(default_factory=dict)  # loss term -> sum over the steps of the epoch
    history: list[dict] = field(default_factory=list)  # one row per epoch
    best: dict[str, dict] = field(default_factory=dict)  # student -> miou, weights and epoch of its best epoch
    peak: int = 0  # most bytes of memory held

    SAVED = ("step", "seconds", "precision", "sums", "history", "best", "peak")

    def __post_init__(self):
        settings, count = self.config.train, len(self.scenes)
        steps = settings.steps or settings.epochs * max(1, count // settings.batch_size)
        self.total_steps = max(1, round(steps * self.method.budget))
        self.epochs = min(settings.epochs, self.total_steps)
        order = torch.randperm(count, generator=seeded(self.config.seed, "labelled scenes")).tolist()
        labelled, unlabelled = order[: self.config.data.labelled], order[self.config.data.labelled or count :]
        self.scenes = self.scenes.hide_labels(labelled)
        half = max(2, settings.batch_size // 2)
        self.pools = {"labelled": (labelled, half if unlabelled else min(settings.batch_size, count))}
        if unlabelled and self.method.label_free:  # other methods train on the labelled scenes alone
            self.pools["unlabelled"] = (unlabelled, half)
        trained = [parameter for parameter in self.method.parameters() if parameter.requires_grad]
        decay = {"weight_decay": settings.weight_decay, "fused": True}  # fused: one pass over memory
        self.optimiser = torch.optim.AdamW(trained, settings.learning_rate, **decay)
        self.schedule = one_cycle(self.optimiser, settings, self.total_steps)
        self._parts = {"method": self.method, "optimiser": self.optimiser, "schedule": self.schedule}
        self._counted_at = time.monotonic()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step * self.epochs // self.total_steps

    def steps_of_epoch(self) -> int:
        """Return the number of steps of the epoch that has just ended; epochs may differ by one."""
        begun, ended = (-(-epoch * self.total_steps // self.epochs) for epoch in (self.epoch - 1, self.epoch))
        return ended - begun

    def indices(self) -> list[int]:
        """Return the scenes of the current step: the next ones of each pool, shuffled anew in every pass over it."""
        found = []
        for name, (pool, count) in self.pools.items():
            places = range(self.step * count, (self.step + 1) * count)
            orders = {
                turn: torch.randperm(len(pool), generator=seeded(self.config.seed, f"pass {turn} over {name} scenes"))
                for turn in {place // len(pool) for place in places}
            }
            found += [pool[orders[place // len(pool)][place % len(pool)]] for place in places]
        return found

    def count_seconds(self) -> None:
        """Add the time since the last count to the run's seconds."""
        now = time.monotonic()
        self.seconds, self._counted_at = self.seconds + now - self._counted_at, now

    def call(self, event: str, *args: Any) -> list[Any]:
        """Return what every callback returns for an event; the time it takes is not the run's."""
        self.count_seconds()
        results = [getattr(callback, event)(self, *args) for callback in self.callbacks]
        self._counted_at = time.monotonic()
        return results

    @contextlib.contextmanager
    def observed_pass(self) -> Iterator[None]:
        """Run a forward or backward pass inside the contexts of all callbacks."""
        with contextlib.ExitStack() as stack:
            for callback in self.callbacks:
                stack.enter_context(callback.on_pass(self))
            yield

    def save(self, path: Path) -> None:
        """Write everything that continuing needs, as tensors and plain values, atomically."""
        saved = {name: part.state_dict() for name, part in self._parts.items()}
        saved["training"] = {name: getattr(self, name) for name in Training.SAVED}
        saved["callbacks"] = [callback.state for callback in self.callbacks if callback.stored]
        with atomic_write(path) as temporary:
            torch.save(saved, temporary)

    def load(self, path: Path) -> None:
        """Restore what ``save`` wrote; ValueError where the file is damaged."""
        try:
            saved = torch.load(path, map_location=self.device, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it to start this run again") from error
        for name, value in saved["training"].items():  # precision too: another machine may compute in another one
            setattr(self, name, value)
        stored = [callback for callback in self.callbacks if callback.stored]
        for callback, state in zip(stored, saved["callbacks"], strict=True):
            callback.state = state
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        say(f"resuming at step {self.step} of {self.total_steps}")


def seeded(seed: int, purpose: str) -> torch.Generator:
    """Return a CPU generator that depends on the run's seed and on what it is for, and on nothing else."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


def one_cycle(optimiser: torch.optim.Optimizer, settings: TrainConfig, steps: int) -> OneCycleLR:
    """Return the schedule of the learning rate: rise and fall over ``steps``; the rise takes at least one step."""
    total = max(steps + 1, 4)  # the least that has a rise and a fall
    return OneCycleLR(optimiser, settings.learning_rate, total_steps=total, pct_start=max(settings.warmup, 2 / total))
