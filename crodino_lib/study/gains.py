"""Compare runs with their controls: the gain of every method over each, with its interval, tests and verdict."""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from crodino_lib import evaluate
from crodino_lib.data.sample import SensorSet
from crodino_lib.study.runs import Run
from crodino_lib.study.statistics import ENOUGH_SEEDS, FEWEST_SEEDS, Estimate, holm, resampled_mious

CONTROLS = {  # row that a gain is over -> what the gain shows
    "baseline": "gain over the baseline",
    "baseline:x2": "gain over twice as many steps",
    "baseline:x4": "gain over four times as many steps",
    "self-training": "gain over self-training",
}
COLUMNS = [
    *("sensors", "method", "teacher", "trained on", "control", "miou", "control miou", "gain", "low", "high", "seeds"),
    *("effect size", "p", "p equivalent"),
]
GAIN_COLUMNS = [*COLUMNS, "headline", "p holm", "verdict"]
HEADLINE = tomllib.loads(Path(__file__).with_name("headline.toml").read_text())


class Row(NamedTuple):
    """What makes runs of other seeds, sensors at test and splits repetitions of each other: a row of a table."""

    method: str
    teacher: str  # its method and sensors, or a dash
    trained_on: str
    settings: str  # those in which the runs of the table differ

    @property
    def name(self) -> str:
        """The method with every setting that differs, so runs that were trained differently never share a name."""
        return self.method + self.settings

    @property
    def key(self) -> tuple[str, str, str]:
        """Name, teacher and sensors: what tables call a row by."""
        return self.name, self.teacher, self.trained_on


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """Return the row of each run in a table of all of them."""
    runs, found = list(runs), []
    for run, settings in zip(runs, _settings_that_differ(runs), strict=True):
        teacher = run.record["parent"]
        taught = f"{teacher['method']} {teacher['sensors']}" if teacher else "-"
        found.append(Row(run.name, taught, str(SensorSet(run.record["config"]["sensors"])), settings))
    return found


class Scores:
    """mIoU, in points, of the students of one sensor (or of several together) on one split.

    Args:
        counts: row -> seed -> (N, K, K) counts per test image.
    """

    def __init__(self, counts: dict[Row, dict[int, np.ndarray]]):
        self.counts = counts
        self._draws = cache(lambda row, seed: 100 * resampled_mious(counts[row][seed], seed=0))
        self.miou = cache(lambda row, seed: 100 * evaluate.scores(counts[row][seed])["miou"])

    def control(self, row: Row, name: str) -> Row | None:
        """Return the row of a control of the same settings, if there is one."""
        fitting = (one for one in self.counts if (one.method, one.settings) == (name, row.settings))
        return next(fitting, None)

    def estimate(self, row: Row) -> Estimate:
        """Return the mIoU of a row."""
        seeds = list(self.counts[row])
        draws = np.mean([self._draws(row, seed) for seed in seeds], axis=0)
        return Estimate(np.array([self.miou(row, seed) for seed in seeds]), draws, self._images(row))

    def places(self) -> dict[Row, int]:
        """Return 1 for the row of the highest mIoU and those that cannot be told from it, 2 for the next such group.

        Rows are compared within the same settings; two cannot be told apart where the interval of their difference
        holds zero.
        """
        found = {}
        for settings in {row.settings for row in self.counts}:
            left = [row for row in self.counts if row.settings == settings and row.trained_on]
            for place in (1, 2):
                best = max(left, key=lambda row: self.estimate(row).mean, default=None)
                leads = {row: self.difference(best, row) for row in left}
                tied = [row for row, lead in leads.items() if row == best or lead is None or lead.interval()[0] <= 0]
                found |= dict.fromkeys(tied, place)
                left = [row for row in left if row not in tied]
        return found

    def paired(self, row: Row, other: Row) -> list[int]:
        """Return the seeds that two rows have in common."""
        return [seed for seed in self.counts[row] if seed in self.counts[other]]

    def difference(self, row: Row, other: Row) -> Estimate | None:
        """Return the mIoU of a row less that of another, paired by seed and by image; None without a common seed."""
        return self.mean_difference([(row, other)])

    def mean_difference(self, pairs: list[tuple[Row, Row]]) -> Estimate | None:
        """Return the mean of several differences, over the seeds that all of them have; None where there are none."""
        common = [set(self.paired(*pair)) for pair in pairs]
        if not common or not (seeds := sorted(set.intersection(*common))):
            return None
        draws = np.mean([self._draws(a, seed) - self._draws(b, seed) for a, b in pairs for seed in seeds], axis=0)
        values = [np.mean([self.miou(a, seed) - self.miou(b, seed) for a, b in pairs]) for seed in seeds]
        return Estimate(np.array(values), draws, self._images(pairs[0][0]))

    def _images(self, row: Row) -> int:
        return len(next(iter(self.counts[row].values())))


def scores_of(runs: Iterable[Run]) -> dict[tuple[str, str], Scores]:
    """Return (split, sensors) -> the scores of all runs with a student of these sensors, in the order of the runs.

    Sensors together have as their baseline, of each seed, the better of the baselines of each sensor.

    Raises:
        ValueError: two runs of one row have the same seed; names them.
    """
    runs, counts, folders = list(runs), {}, {}
    for run, row in zip(runs, rows_of(runs), strict=True):
        seed = run.record["config"]["seed"]
        if (row, seed) in folders:
            twice = f"{folders[row, seed].name}, {run.folder.name}"
            raise ValueError(f"the runs {twice} of {row.name} have the same seed and the same settings")
        folders[row, seed] = run.folder
        for key, matrix in run.confusion().items():
            counts.setdefault(key, {}).setdefault(row, {})[seed] = matrix
    found = {key: Scores(one) for key, one in counts.items()}
    for (split, sensors), one in found.items():
        if len(SensorSet.parse(sensors)) > 1:
            alone = [found[split, name] for name in SensorSet.parse(sensors) if (split, name) in found]
            one.counts |= _better_baselines(alone, {row.settings for row in one.counts})
    return found


def _better_baselines(alone: list[Scores], settings: set[str]) -> dict[Row, dict[int, np.ndarray]]:
    """Return, for every seed that all have, the counts of the better baseline of several sensors."""
    better = {}
    for setting in settings:
        row = Row("baseline", "-", "", setting)
        rows = [(one, control) for one in alone if (control := one.control(row, "baseline"))]
        common = set.intersection(*(set(one.counts[control]) for one, control in rows)) if rows else set()
        for seed in common if len(rows) > 1 else ():
            one, control = max(rows, key=lambda pair: pair[0].miou(pair[1], seed))
            better.setdefault(row, {})[seed] = one.counts[control][seed]
    return better


def gain_table(
    scores: Mapping[tuple[str, str], Scores], split: str = "test", controls: Iterable[str] = CONTROLS
) -> pd.DataFrame:
    """Return the gain of every method over each control: one row per sensors at test, method and control.

    ``scores`` is from ``scores_of``. ``gain`` is the mean over seeds of the difference of mIoU, in points, to the
    control of the same seed, with ``low`` and ``high`` at 95 % (see ``Estimate``), ``effect size``, ``p`` and ``p
    equivalent`` (NaN for fewer than eight seeds); ``miou`` and ``control miou`` are means over the same seeds. Of two
    controls the later one is compared with the earlier alone. See ``decide`` for the other columns.
    """
    rows, order = [], list(controls)
    for sensors, found in ((key[1], one) for key, one in scores.items() if key[0] == split):
        for row in sorted(row for row in found.counts if row.trained_on):
            for name in order[: order.index(row.method)] if row.method in order else order:
                if (control := found.control(row, name)) and (gain := found.difference(row, control)):
                    means = [np.mean([found.miou(r, s) for s in found.paired(row, control)]) for r in (row, control)]
                    tests = gain.effect_size, gain.p_difference(), gain.p_equivalence()
                    known = (sensors, *row.key, name, *means, gain.mean, *gain.interval())
                    rows.append((*known, len(gain.values), *tests))
    return decide(pd.DataFrame(rows, columns=COLUMNS))


def decide(table: pd.DataFrame) -> pd.DataFrame:
    """Return gains with ``headline``, ``p holm`` and ``verdict``; two families are corrected, headlines and the rest.

    A verdict is ``gain`` or ``loss`` where the interval leaves zero out, else ``undecided``, and ``-`` for fewer than
    three seeds. From eight seeds on a gain or loss may be ``significant``, by the corrected test, and what is undecided
    ``equivalent``: inside of +-1 point, by a test that is not corrected. With eight seeds no family of more than six
    tests can reach 5 %.
    """
    named = table.method.str.partition(" [")[0].isin(HEADLINE["methods"]) if len(table) else table.method.isin(())
    headline = (table.control == HEADLINE["control"]) & named
    corrected = table.p.groupby(headline).transform(holm) if len(table) else table.p
    table = table.assign(**{"headline": headline, "p holm": corrected})
    known = table[["low", "high", "seeds", "p holm", "p equivalent"]].to_numpy()
    return table.assign(verdict=[verdict(*row) for row in known])


def verdict(low: float, high: float, seeds: int, p: float = np.nan, p_equivalent: float = np.nan) -> str:
    """Return what an interval and the tests of a gain allow to say; see ``decide``."""
    if seeds < FEWEST_SEEDS:
        return "-"
    found = "gain" if low > 0 else "loss" if high < 0 else "undecided"
    if seeds >= ENOUGH_SEEDS and found != "undecided" and p < 0.05:
        return f"significant {found}"
    return "equivalent" if found == "undecided" and seeds >= ENOUGH_SEEDS and p_equivalent < 0.05 else found


def _settings_that_differ(runs: list[Run]) -> list[str]:
    """Return, for each run, the settings in which the runs differ besides their method and seed, as text."""
    flat = []
    for run in runs:
        config = run.record["config"]
        shared = {name: str(value) for part in ("data", "model", "train") for name, value in config[part].items()}
        flat.append({**shared, "scenes seen": run.record["dataset_fingerprint"][:6]})
    differing = sorted({name for one in flat for name in one if len({other.get(name) for other in flat}) > 1})
    if "dataset" in differing:  # another dataset has other scenes in any case
        differing = [name for name in differing if name not in ("scenes seen", "options")]
    texts = [", ".join(f"{name} {settings[name]}" for name in differing if name in settings) for settings in flat]
    return [f" [{text}]" if text else "" for text in texts]
