"""Plan the runs of dials, and compile the gains of their methods over each control."""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from crodino_lib.config import RunConfig
from crodino_lib.study.dials import Dial
from crodino_lib.study.runs import Run
from crodino_lib.study.statistics import interval, paired_interval, resampled_mious
from crodino_lib.study.study import Study

CONTROLS = {  # row that a gain is over -> what the gain shows
    "baseline": "gain over as many steps",
    "baseline:x2": "gain over twice as many steps",
    "baseline:x4": "gain over four times as many steps",
    "self-training": "gain over self-training",
}
GAIN_COLUMNS = ["method", "control", "miou", "control miou", "gain", "low", "high", "interval over", "seeds", "verdict"]


def study_of(dial: Dial, value: Any, base: Study, root: str = "") -> Study:
    """Return the study of one value of a dial, in a folder beside that of ``base``; see ``Dial.config``."""
    return Study(dial.config(value, base.config, root), base.folder.parent)


def runs_of(dial: Dial, study: Study, seed: int) -> list[RunConfig]:
    """Return the runs of one value and seed, teachers first: of methods of two sensors, and of the dial's students."""
    chosen = [run for run in study.grid() if run.sensors[1:] or run.sensors[0] in dial.students]
    grid = [run for run in chosen if run.seed == seed]
    return [*(run.parent for run in grid if run.parent), *grid]


def plan(dials: Iterable[Dial], base: Study, root: str = "") -> list[tuple[Study, RunConfig]]:
    """Return every run of the dials that is not finished, none twice: headline values with all seeds before others."""
    dials, found = list(dials), {}
    first = [(dial, value) for dial in dials for value in dial.headline or dial.values]
    rest = [(dial, value) for dial in dials for value in dial.values if (dial, value) not in first]
    for dial, value in [*first, *rest]:
        study = study_of(dial, value, base, root)
        for seed in study.config.seed_list:
            found |= {run.model_dump_json(): (study, run) for run in runs_of(dial, study, seed)} | found
    return [(study, run) for study, run in found.values() if not study.is_finished(run)]


def dial_table(dial: Dial, base: Study) -> pd.DataFrame:
    """Return the gains of a dial from the records of finished runs: one row per value, student, method and control.

    ``gain`` is the mean over seeds of the difference of mIoU, in points, to the control of the same seed; ``low`` and
    ``high`` bound it at 95 % over ``interval over``: paired seeds (see ``paired_interval``) or, with fewer than three,
    resampled test images; ``verdict`` is what they allow to say; ``miou`` and ``control miou`` are means over seeds.
    """
    tables = []
    for value in dial.values:
        config = dial.config(value, base.config)
        there = (base.folder.parent / config.name).exists()  # to open a study makes its folder
        runs = study_of(dial, value, base).finished()[0] if there else []
        for student in dial.students if runs else ():
            gains = gain_table(miou_table(runs), Resampled(runs, student), student)
            tables.append(gains[gains.method.isin(config.methods)].assign(value=str(value), student=student))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*GAIN_COLUMNS, "value", "student"])


def miou_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Return one row per run, split and set of sensors: ``method``, ``seed``, ``split``, ``sensors``, ``miou``."""
    rows = [
        (run.name, run.record["config"]["seed"], row["split"], row["sensors"], 100 * row["miou"])
        for run in runs
        for row in run.record["metrics"]
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "split", "sensors", "miou"])


class Resampled(dict):
    """(method, seed) -> mIoU in points of resampled test images, the same ones for every run; computed when asked."""

    def __init__(self, runs: Iterable[Run], student: str, split: str = "test"):
        super().__init__()
        mine = [run for run in runs if any(row["sensors"] == student for row in run.record["metrics"])]
        self.runs, self.key = {(run.name, run.record["config"]["seed"]): run for run in mine}, (split, student)

    def __missing__(self, name: tuple[str, int]) -> np.ndarray:
        counts = self.runs[name].confusion()[self.key]
        return self.setdefault(name, 100 * resampled_mious(counts, seed=0))


def gain_table(
    table: pd.DataFrame, draws: Mapping[tuple[str, int], np.ndarray], student: str, split: str = "test"
) -> pd.DataFrame:
    """Return the gains of one student over each control, with the columns of ``dial_table``.

    Of two controls the later one is compared with the earlier alone. ``table`` is from ``miou_table``.
    """
    chosen = table[(table.split == split) & (table.sensors == student)]
    mious = chosen.pivot_table(index="seed", columns="method", values="miou")
    order, rows = list(CONTROLS), []
    for method, control in product(mious.columns, order):
        earlier = method in order and order.index(method) <= order.index(control)
        pair = pd.DataFrame() if earlier or control not in mious else mious[[method, control]].dropna()
        if len(pair):
            gains, over = (pair[method] - pair[control]).to_numpy(), "seeds"
            low, high = paired_interval(gains)
            if np.isnan(low):
                over = "images"
                low, high = interval(np.mean([draws[method, s] - draws[control, s] for s in pair.index], axis=0))
            found = (*pair.mean(), gains.mean(), low, high, over, len(gains), verdict(low, high))
            rows.append((method, control, *found))
    return pd.DataFrame(rows, columns=GAIN_COLUMNS)


def verdict(low: float, high: float) -> str:
    """Return what an interval of a gain allows to say."""
    return "gain" if low > 0 else "loss" if high < 0 else "undecided"
