"""Turn a dial: the same methods at several values of one setting; each value is a study of its own beside a base."""

import tomllib
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from crodino_lib.config import RunConfig, StudyConfig
from crodino_lib.data.registry import DATASETS
from crodino_lib.io import say
from crodino_lib.settings import Names, Strict, as_tuple
from crodino_lib.study.pipeline import in_parallel, train_run
from crodino_lib.study.statistics import paired_interval
from crodino_lib.study.study import Study
from crodino_lib.study.tables import run_table

CONTROLS = {  # row that a gain is over -> what the gain shows
    "baseline": "over the baseline of equal steps",
    "baseline:x2": "over the baseline of twice the steps",
    "self-training": "over self-training: what the second sensor brings",
}


class Dial(Strict):
    """A setting that is turned, and what was predicted of the gain before it was."""

    name: str
    title: str = Field(description="what the setting is, for the axis of a figure")
    setting: str = Field(description="setting of a study, or options.NAME")
    values: tuple[Any, ...]
    headline: tuple[Any, ...] = Field((), description="values that are trained first, with all seeds; all if empty")
    students: Names = Field(description="sensors whose students are compared")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of its points other than the base's")
    prediction: str
    source: str

    def study(self, value: Any, base: Study, root: str = "") -> Study:
        """Return the study of one value: in a folder beside that of ``base``, or in the same where no setting differs.

        Args:
            value: one of ``values``.
            base: the study in which the dial is not turned.
            root: folder of your copy of the dataset, which training needs where it is not the built-in one.
        """
        flat = base.config.flat() | self.settings | ({"root": root} if root else {})
        options, (where, _, name) = dict(flat.get("options", {})), self.setting.rpartition(".")
        (options if where else flat)[name] = value
        dataset = flat.get("dataset", base.config.data.dataset)
        flat["options"] = DATASETS[dataset].options.parse(options).model_dump(exclude_defaults=True)
        for study in (base.config.name, f"{base.config.name}-{self.name}-{value}"):
            config = StudyConfig.parse({**flat, "study": study})
            if config.identity() == base.config.identity():
                break
        return Study(config, base.folder.parent)

    def runs(self, study: Study, seed: int) -> list[RunConfig]:
        """Return the runs of one value and seed, teachers first: of methods of two sensors, and of the students'."""
        chosen = [run for run in study.grid() if run.sensors[1:] or run.sensors[0] in self.students]
        grid = [run for run in chosen if run.seed == seed]
        return [*(run.parent for run in grid if run.parent), *grid]


_TABLES = tomllib.loads(Path(__file__).with_name("dials.toml").read_text())
BASE: dict[str, Any] = _TABLES["base"]  # settings of the base of the reference
DIALS = {
    name: Dial(name=name, **{key: as_tuple(value) for key, value in table.items()})
    for name, table in _TABLES["dials"].items()
}


def plan(names: Iterable[str], base: Study, root: str = "") -> list[tuple[Study, RunConfig]]:
    """Return every run of the dials that is not finished, none twice: headline values with all seeds before others."""
    dials, found = [DIALS[name] for name in names], {}
    first = [(dial, value) for dial in dials for value in dial.headline or dial.values]
    rest = [(dial, value) for dial in dials for value in dial.values if (dial, value) not in first]
    for dial, value in [*first, *rest]:
        study = dial.study(value, base, root)
        for seed in study.config.seed_list:
            found |= {run.model_dump_json(): (study, run) for run in dial.runs(study, seed)} | found
    return [(study, run) for study, run in found.values() if not study.is_finished(run)]


def turn(names: Iterable[str], base: Study, root: str = "") -> None:
    """Train the runs of dials that are missing, several at a time, in the order of ``plan``."""
    missing = plan(names, base, root)
    say(f"dials {', '.join(names)}: {len(missing)} runs to train")
    for line in in_parallel([(train_run, study.config, study.folder.parent, run) for study, run in missing]):
        say(f"  {line}")


def dial_table(dial: Dial, base: Study) -> pd.DataFrame:
    """Return the gains of a dial from the records of finished runs: one row per value, student, method and control.

    ``gain`` is the mean over seeds of the difference of mIoU, in points, to the control of the same seed; ``low`` and
    ``high`` bound it at 95 % (see ``paired_interval``), ``verdict`` is what they allow to say, ``seeds`` their number;
    ``miou`` and ``control miou`` are means over the same seeds.
    """
    tables = []
    for value, student in product(dial.values, dial.students):
        runs, _ = dial.study(value, base).finished()
        if runs:
            tables.append(gain_table(run_table(runs), student).assign(value=str(value), student=student))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*GAIN_COLUMNS, "value", "student"])


GAIN_COLUMNS = ["method", "control", "miou", "control miou", "gain", "low", "high", "seeds", "verdict"]


def gain_table(table: pd.DataFrame, student: str, split: str = "test") -> pd.DataFrame:
    """Return the gains of one student over each control, from ``run_table``; columns as in ``dial_table``."""
    chosen = table[(table.split == split) & (table.sensors == student)]
    mious = chosen.pivot_table(index="seed", columns="method", values="miou")
    rows = []
    for method, control in product(mious.columns, CONTROLS):
        if (
            control not in mious.columns
            or method == control
            or method in list(CONTROLS)[: list(CONTROLS).index(control)]
        ):
            continue  # a control is compared with those before it alone
        pair = mious[[method, control]].dropna()
        if len(pair):
            gains = (pair[method] - pair[control]).to_numpy()
            low, high = paired_interval(gains)
            means = (*pair.mean(), gains.mean(), low, high, len(gains), verdict(low, high))
            rows.append(dict(zip(GAIN_COLUMNS, (method, control, *means), strict=True)))
    return pd.DataFrame(rows, columns=GAIN_COLUMNS)


def verdict(low: float, high: float) -> str:
    """Return what an interval of a gain allows to say."""
    if np.isnan(low):
        return "too few seeds"
    return "gain" if low > 0 else "loss" if high < 0 else "undecided"
