"""Turn a dial: the same methods at several values of one setting; each value is a study of its own beside a base."""

import tomllib
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from crodino_lib.config import RunConfig, StudyConfig
from crodino_lib.data.registry import DATASETS
from crodino_lib.io import say
from crodino_lib.settings import Strict, as_tuple
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
    student: str = Field(description="sensor of the students that are compared")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="settings in which its points differ from the base"
    )
    prediction: str
    source: str

    def study(self, value: Any, base: Study) -> Study:
        """Return the study of one value, beside ``base``, or ``base`` itself where it has the same settings."""
        config = self.config(value, base.config)
        return base if config.identity() == base.config.identity() else Study(config, base.folder.parent)

    def config(self, value: Any, base: StudyConfig) -> StudyConfig:
        """Return the settings of the study of one value."""
        flat = base.flat() | self.settings
        options, (where, _, name) = dict(flat.get("options", {})), self.setting.rpartition(".")
        if where:
            options[name] = value
        else:
            flat[name] = value
        kept = DATASETS[base.data.dataset].options.parse(options).model_dump(exclude_defaults=True)
        return StudyConfig.parse({**flat, "options": kept, "study": f"{base.name}-{self.name}-{value}"})

    def runs(self, value: Any, base: Study, seeds: Iterable[int]) -> Iterator[tuple[Study, RunConfig]]:
        """Yield the study and the runs of one value, teachers first: methods of two sensors, and the student's."""
        study = self.study(value, base)
        grid = [
            run for run in study.grid() if run.seed in seeds and (len(run.sensors) > 1 or self.student in run.sensors)
        ]
        yield from ((study, run) for run in [*(run.parent for run in grid if run.parent), *grid])


_TABLES = tomllib.loads(Path(__file__).with_name("dials.toml").read_text())
BASE: dict[str, Any] = _TABLES["base"]  # settings of the base of the reference
DIALS = {
    name: Dial(name=name, **{key: as_tuple(value) for key, value in table.items()})
    for name, table in _TABLES["dials"].items()
}


def plan(names: Iterable[str], base: Study) -> list[tuple[Study, RunConfig]]:
    """Return every run of the dials that is not finished, none twice: all dials with one seed before the next seed."""
    found: dict[str, tuple[Study, RunConfig]] = {}
    for seed in base.config.seed_list:
        for dial in (DIALS[name] for name in names):
            for value in dial.values:
                for study, run in dial.runs(value, base, [seed]):
                    found.setdefault(run.model_dump_json(), (study, run))
    return [(study, run) for study, run in found.values() if not study.is_finished(run)]


def turn(names: Iterable[str], base: Study) -> None:
    """Train the runs of dials that are missing, several at a time, in the order of ``plan``."""
    missing = plan(names, base)
    say(f"dials {', '.join(names)}: {len(missing)} runs to train")
    for line in in_parallel([(train_run, study.config, study.folder.parent, run) for study, run in missing]):
        say(f"  {line}")


def dial_table(dial: Dial, base: Study) -> pd.DataFrame:
    """Return the gains of a dial from the records of finished runs: one row per value, method and control.

    ``gain`` is the mean over seeds of the difference of mIoU, in points, to the control of the same seed; ``low`` and
    ``high`` bound it at 95 % (see ``paired_interval``), ``verdict`` is what they allow to say, ``seeds`` their number;
    ``miou`` and ``control miou`` are means over the same seeds.
    """
    tables = []
    for value in dial.values:
        study = dial.study(value, base)
        runs, _ = study.finished()
        if runs:
            tables.append(gain_table(run_table(runs), dial.student).assign(value=str(value)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*GAIN_COLUMNS, "value"])


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
