"""The models of a study that have a network for each of its sensors: what the laboratory and the explorer look at."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from crodino_lib.config import choose
from crodino_lib.io import say
from crodino_lib.methods.registry import METHODS
from crodino_lib.study.runs import Run, finished_run, run_hash
from crodino_lib.study.study import Study


@dataclass(frozen=True)
class TrainedModel:
    """A model with a network of each sensor: one run that trains both, or two runs of one sensor each.

    Attributes:
        row: what its seeds have in common: the method, and settings and teacher where other models differ by them.
        runs: one or two.
        sensors: the study's two.
    """

    row: str
    runs: tuple[Run, ...]
    sensors: tuple[str, ...]

    @property
    def name(self) -> str:
        """How it is called in tables."""
        return f"{self.row} seed {self.seed}"

    @property
    def method(self) -> str:
        """The method's name in the registry."""
        return self.runs[0].config.method

    @property
    def is_current(self) -> bool:
        """Whether the present code trained it."""
        return all(_age(run)[0] for run in self.runs)

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.runs[0].config.seed


def find_models(study: Study, methods: Iterable[str] = (), seeds: Iterable[int] = ()) -> list[TrainedModel]:
    """The finished models of a study that have a network for each of its sensors.

    Where one run was trained with several versions of the code, the present one's counts, else the newest. Runs that
    saw other scenes than the dataset has now are left out, and said so.

    Args:
        study: where runs lie.
        methods: rows; all that are there where none is given.
        seeds: seeds; all where none is given.

    Raises:
        ValueError: a row that does not exist, has no network for each sensor, or no finished run.
    """
    wanted, seeds = [choose(method, METHODS, "method") for method in methods], set(seeds)
    found: dict[tuple, dict[tuple[str, ...], Run]] = {}
    folders = (study.folder / "runs" / study.config.data.dataset).glob("*/*")
    looked_at = [folder for folder in folders if not wanted or folder.parent.name in {*wanted, "baseline"}]
    finished = [run for run in map(finished_run, looked_at) if run]
    same = [run for run in finished if run.record["dataset_fingerprint"] == study.fingerprint]
    if others := len(finished) - len(same):
        say(f"{others} finished runs saw other scenes than {study.card.title} has here; they are left out")
    for run in sorted(same, key=_age):
        config = run.config
        key = (config.method, config.seed, json.dumps(config.settings, sort_keys=True), config.teacher)
        alone = [name for name in run.record["cost"]["students"] if "+" not in name]
        if alone:
            found.setdefault(key, {})[tuple(alone)] = run
    subjects = []
    for (method, _, settings, _), runs in found.items():
        whole = [run for served, run in runs.items() if set(study.config.sensors) <= set(served)]
        pair = [runs.get((sensor,)) for sensor in study.config.sensors]
        chosen = whole[-1:] or (pair if all(pair) else [])
        if chosen:
            row = method if settings == "{}" else f"{method} {settings}"
            subjects.append(TrainedModel(row, tuple(chosen), study.config.sensors))
    names = [subject.name for subject in subjects]
    subjects = [  # one row may have been taught by several teachers
        replace(s, row=f"{s.row} taught by {s.runs[0].config.teacher}") if names.count(s.name) > 1 else s
        for s in subjects
    ]
    there = sorted({subject.method for subject in subjects})
    if seeds:
        subjects = [subject for subject in subjects if subject.seed in seeds]
    if missing := [method for method in wanted if method not in {subject.method for subject in subjects}]:
        changed = study.config.model_dump(exclude_defaults=True, exclude={"study", "methods", "profile", "sensors"})
        settings = "".join(f" --{name.replace('_', '-')} {value}" for name, value in changed.items())
        of_seeds = f" of seed {', '.join(map(str, sorted(seeds)))}" if seeds else ""
        raise ValueError(
            f"study {study.config.name} has no finished {missing[0]}{of_seeds} with a network of each of "
            f"{' and '.join(study.config.sensors)}; it has {', '.join(there) or 'nothing'}. Train it (rows of one "
            f"sensor once with each --student): crodino run --method {missing[0]} --study {study.config.name} "
            f"--profile {study.config.profile}{settings} --sensors {','.join(study.config.sensors)}"
        )
    order = wanted or list(METHODS)
    chosen = [subject for subject in subjects if subject.method in order]
    return sorted(chosen, key=lambda subject: (order.index(subject.method), subject.seed, subject.name))


def _age(run: Run) -> tuple[bool, float]:
    """Sorts runs of the present code after others, and newer ones after older ones."""
    present = run_hash(run.config, run.record["dataset_fingerprint"]) == run.record["hash"]
    return present, (run.folder / "run.json").stat().st_mtime
