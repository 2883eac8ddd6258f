"""Draw the gain of every method over the baseline of the same seed: the figure that a report starts with."""

import numpy as np
import pandas as pd
from scipy import stats

from crodino_lib.figures.base import StudyFigure, count, printed, require, sensor_styles, styled

METHOD, TEACHER, SENSORS, SPLIT = "method", "teacher", "sensors at test", "split"  # columns of comparison_table
GAIN, LOW, HIGH, SPREAD = "gain", "gain interval low", "gain interval high", "gain sd"
SEEDS, IMAGES = "seeds", "test images"


@styled
def gains(table: pd.DataFrame, split: str = "test", width: str = "column") -> StudyFigure:
    """Draw one row per method, teacher and sensors at test: the gain in mIoU points with its 95 % interval.

    Rows are grouped by the sensors at test, and sorted by gain within a group. The interval of several seeds is that
    of their mean (Student's t, paired by seed), that of one seed comes from resampling its test images.

    Args:
        table: from ``crodino_lib.study.tables.comparison_table``.
        split: whose gains are drawn.
        width: ``column`` or ``page``.

    Raises:
        ValueError: the table lacks a column, or has no gain on this split.
    """
    require(table, METHOD, TEACHER, SENSORS, SPLIT, GAIN, LOW, HIGH, SPREAD, SEEDS, IMAGES)
    shown = table[(table[SPLIT] == split) & table[GAIN].notna()].sort_values(GAIN, ascending=False, kind="stable")
    if shown.empty:
        raise ValueError(
            f"the table has no gain over a baseline on split {split!r}; it has splits "
            f"{', '.join(table[SPLIT].unique())}. A gain needs a method and the baselines of the same seeds"
        )
    sensors = [name for name in table[SENSORS].unique() if name in set(shown[SENSORS])]
    styles, labels = sensor_styles(sensors), []
    figure = StudyFigure(width, 14 + 3.6 * (len(shown) + len(sensors)), _caption(shown, split))
    ax = figure.subplots()
    ax.axvline(0, color="0.3", lw=0.8, zorder=1)
    for name in sensors:
        colour, marker = styles[name]
        labels.append((f"{printed(name)} at test", colour))
        for _, row in shown[shown[SENSORS] == name].iterrows():
            low, high = _interval(row)
            filled = "white" if low <= 0 <= high else colour
            ax.plot([low, high], [len(labels)] * 2, color=colour, lw=1.2, solid_capstyle="butt", zorder=2)
            ax.plot(row[GAIN], len(labels), marker, color=colour, ms=4, mfc=filled, zorder=3)
            labels.append((_label(row), "0.1"))
    ax.set_yticks(range(len(labels)), [label for label, _ in labels])
    for text, (_, colour) in zip(ax.get_yticklabels(), labels, strict=True):
        text.set(color=colour, weight="normal" if colour == "0.1" else "bold")
    ax.set(xlabel="gain in mIoU over the baseline (points)", ylim=(len(labels) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    return figure


def _interval(row: pd.Series) -> tuple[float, float]:
    """Return the 95 % interval of a gain: over paired seeds where there are several, else over test images."""
    if row[SEEDS] < 2:
        return row[LOW], row[HIGH]
    half = stats.t.ppf(0.975, row[SEEDS] - 1) * row[SPREAD] / np.sqrt(row[SEEDS])
    return row[GAIN] - half, row[GAIN] + half


def _label(row: pd.Series) -> str:
    """Return the method and, where there is one, its teacher: ``kd (from acnet, RGB + depth)``."""
    teacher, _, sensors = row[TEACHER].partition(" ")
    return row[METHOD] if teacher == "-" else f"{row[METHOD]} (from {teacher}, {printed(sensors)})"


def _caption(shown: pd.DataFrame, split: str) -> str:
    fewest, most = shown[SEEDS].min(), shown[SEEDS].max()
    several = "of the mean over paired seeds (Student's t)" if most > 1 else ""
    seeds = count(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    taught = " From: the teacher and its sensors." if (shown[TEACHER] != "-").any() else ""
    single = "from resampling the test images of one seed, which does not cover other seeds" if fewest == 1 else ""
    return (
        "Gain over the baseline of the same sensor and seed; for sensors together, over the better of their baselines. "
        f"Split {split}, {count(shown[IMAGES].iloc[0], 'image')}, {seeds}. "
        f"Lines: 95 % interval {' or '.join(filter(None, (several, single)))}; open marks: it contains 0.{taught}"
    )
