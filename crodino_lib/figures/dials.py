"""Draw what a dial shows: the gain over each control against the setting that is turned, with intervals over seeds."""

import textwrap
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from crodino_lib.figures.base import StudyFigure, count, method_colours, printed, require, save, styled
from crodino_lib.methods.registry import method_title
from crodino_lib.study.dial_runs import dial_table
from crodino_lib.study.dials import Dial
from crodino_lib.study.gains import CONTROLS
from crodino_lib.study.statistics import ENOUGH_SEEDS, interval_over
from crodino_lib.study.study import Study

GAIN = "gain in mIoU (points)"
SHOWN = ("baseline", "self-training")  # controls that a figure has a panel for


@styled
def dial_figure(table: pd.DataFrame, dial: Dial, width: str = "page") -> StudyFigure:
    """Draw a row of panels per student and a panel per control: a line per method, or a list where there is one value.

    ``table`` is from ``dial_table``; ValueError where it has no gain over the controls shown.
    """
    require(table, "value", "student", "method", "control", "gain", "low", "high", "seeds")
    table = table[table.control.isin(SHOWN)]
    if table.empty:
        raise ValueError(f"dial {dial.name} has no gain yet: it needs finished runs of a method and of a control")
    students, controls = list(dict.fromkeys(table.student)), [name for name in SHOWN if name in set(table.control)]
    methods = list(table.groupby("method").gain.mean().sort_values(ascending=False).index)
    values, colours = list(map(str, dial.values)), method_colours(methods)
    listed, across = table.value.nunique() == 1, len(controls) if width == "page" else 1
    down = len(students) * len(controls) // across
    figure = StudyFigure(width, down * (16 + (4 * len(methods) if listed else 46)), dial_caption(table))
    panels = figure.subplots(down, across, sharey="row" if across > 1 else False, sharex=True, squeeze=False)
    axes = panels.reshape(len(students), len(controls))
    for row, student in zip(axes, students, strict=True):
        for ax, control in zip(row, controls, strict=True):
            shown = table[(table.student == student) & (table.control == control)]
            (_list_gains if listed else _draw_lines)(ax, shown, methods if listed else values, colours)
            ax.set_title(f"{printed(student)} student: {CONTROLS[control]}", loc="left")
    for ax in panels[-1]:
        ax.set_xlabel(GAIN if listed else textwrap.fill(dial.title, 55))
    for ax in () if listed else panels[:, 0]:
        ax.set_ylabel(GAIN)
    if not listed:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4 if across > 1 else 2)
    return figure


def _draw_lines(ax: Axes, shown: pd.DataFrame, values: list[str], colours: dict) -> None:
    """Draw a line per method over the values, with an interval at each, side by side, and a gap where none was run."""
    step = min(0.06, 0.3 / len(colours))
    ax.axhline(0, color="0.3", lw=0.8)
    for place, (method, colour) in enumerate(colours.items()):
        rows = shown[shown.method == method].set_index("value").reindex(values)
        x = np.arange(len(values)) + step * (place - (len(colours) - 1) / 2)
        ax.plot(x, rows.gain, "o-", ms=3, lw=1, color=colour, label=method_title(method))
        ax.vlines(x, rows.low, rows.high, color=colour, lw=0.8)
    ax.set_xticks(range(len(values)), values)


def _list_gains(ax: Axes, shown: pd.DataFrame, methods: list[str], colours: dict) -> None:
    """Draw one gain per method with its interval, one below the other."""
    ax.axvline(0, color="0.3", lw=0.8)
    for row in shown.itertuples():
        place = methods.index(row.method)
        ax.hlines(place, row.low, row.high, color=colours[row.method], lw=1.2)
        ax.plot(row.gain, place, "o", ms=4, color=colours[row.method])
    ax.set_yticks(range(len(methods)), map(method_title, methods))
    ax.set_ylim(len(methods) - 0.4, -0.6)


def dial_caption(table: pd.DataFrame) -> str:
    """Return what the marks and bars are."""
    fewest, most = table.seeds.min(), table.seeds.max()
    seeds = count(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    tested = " Descriptive: a test needs eight paired seeds." if fewest < ENOUGH_SEEDS else ""
    return f"Test split, means of {seeds}; bars: 95 % intervals over {interval_over(fewest, most)}.{tested}"


def save_dials(dials: Iterable[Dial], base: Study) -> str:
    """Write ``tables/dial-<name>.csv`` and ``figures/dial-<name>`` of dials with finished runs; return them as text."""
    shown = []
    for dial in dials:
        table = dial_table(dial, base)
        if table.empty:
            shown.append(f"{dial.name}: no finished runs")
            continue
        base.save_table(table, f"dial-{dial.name}")
        save(dial_figure(table, dial), base.figures, f"dial-{dial.name}", table)
        shown.append(
            f"{dial.name}: {dial.title}\npredicted: {dial.prediction}\n{table.round(2).to_string(index=False)}"
        )
    return "\n\n".join([*shown, f"{base.folder / 'tables'}\n{base.figures}"])
