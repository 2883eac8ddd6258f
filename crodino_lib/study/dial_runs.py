"""Plan the runs of dials, and compile the gains of their methods over each control."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from crodino_lib.config import RunConfig
from crodino_lib.study.dials import Dial
from crodino_lib.study.gains import CONTROLS, gain_table, scores_of
from crodino_lib.study.study import Study


def study_of(dial: Dial, value: Any, base: Study, root: str = "") -> Study:
    """Return the study of one value of a dial, in a folder beside that of ``base``; see ``Dial.config``."""
    return Study(dial.config(value, base.config, root), base.folder.parent)


def started_studies(dials: Iterable[Dial], base: Study) -> list[Study]:
    """Return the base and the studies of the values of dials that have a folder, none twice."""
    configs = [dial.config(value, base.config) for dial in dials for value in dial.values]
    names = {config.name: config for config in configs if (base.folder.parent / config.name).exists()}
    return [base, *(Study(config, base.folder.parent) for name, config in names.items() if name != base.config.name)]


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
            runs = {(study.config.name, run.model_dump_json()): (study, run) for run in runs_of(dial, study, seed)}
            found |= runs | found  # the same run of another study lies in another folder
    return [(study, run) for study, run in found.values() if not study.is_finished(run)]


def dial_table(dial: Dial, base: Study) -> pd.DataFrame:
    """Return the gains of a dial from the records of finished runs: ``gain_table`` by ``value`` and ``student``.

    The tests of each value are a family of their own, as in the tables of its study. An ablation's has the differences
    to its reference as well.
    """
    tables, controls = [], [*CONTROLS, *([dial.reference] if dial.reference else [])]
    for value in dial.values:
        config = dial.config(value, base.config)
        there = (base.folder.parent / config.name).exists()  # to open a study makes its folder
        gains = gain_table(scores_of(study_of(dial, value, base).finished()[0] if there else []), controls=controls)
        shown = gains[gains.method.isin(config.methods) & gains.sensors.isin(dial.students)]
        tables.append(shown.rename(columns={"sensors": "student"}).assign(value=str(value)))
    full = [table for table in tables if len(table)] or tables[:1]  # an empty one would take the numbers' type away
    return pd.concat(full, ignore_index=True)
