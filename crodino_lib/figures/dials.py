"""Draw what a dial shows: the gain over each control against the setting that is turned, with intervals over seeds."""

import textwrap
from collections.abc import Callable, Iterable
from functools import partial

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
FAR = 4  # times the median distance from zero: from here on a difference is printed at the edge of an ablation
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


@styled
def ablation_figure(table: pd.DataFrame, dial: Dial, control: str = "baseline", width: str = "page") -> StudyFigure:
    """Draw the difference of every variant to a control, a panel per student, under the headings of the ablation.

    A band marks the interval of the reference. ``table`` is from ``dial_table``, of one value; ``control`` may be the
    reference itself. ValueError where nothing was compared with the control, or at several values.
    """
    require(table, "value", "student", "method", "control", "gain", "low", "high", "seeds")
    table, lines = table[table.control == control], []
    for heading, names in dial.groups.items():
        there = [(label, name) for name, label in names.items() if name in set(table.method)]
        lines += [(heading, ""), *there] if there else []
    if not lines:
        raise ValueError(f"no method of {dial.name} was compared with {control!r} yet: run crodino dials {dial.name}")
    if table.value.nunique() != 1:
        raise ValueError(f"an ablation is drawn at one value; choose one of {', '.join(table.value.unique())}")
    students, wide = [student for student in dial.students if student in set(table.student)], width == "page"
    caption = (
        f"{dial.title}: {table.value.iloc[0]}. Difference in mIoU to {method_title(control)}. {dial_caption(table)}"
    )
    figure = StudyFigure(width, (14 + 3.6 * len(lines)) * (1 if wide else len(students)), caption)
    colours = method_colours(dict.fromkeys(_kind(name, dial.reference) for name in table.method))
    for ax, student in zip(figure.panels(len(students), sharey=True), students, strict=True):
        _list_variants(ax, table[table.student == student].set_index("method"), lines, colours, dial.reference)
        ax.set_title(f"{printed(student)} student", loc="left")
        ax.set_xlabel(f"difference in mIoU to {method_title(control)} (points)")
    return figure


def _list_variants(
    ax: Axes, rows: pd.DataFrame, lines: list[tuple[str, str]], colours: dict[str, str], reference: str
) -> None:
    """Draw the difference of each method with its interval, one below the other; a line without a method heads some.

    A difference far from all others stands as a number at the edge, or it would press the others together.
    """
    ends = rows[["low", "high"]].abs().max(axis=1)
    near = rows[rows.gain.abs() <= FAR * ends.median()]
    edges = 1.1 * min(-0.2, near.low.min()), 1.1 * max(0.2, near.high.max())
    ax.axvline(0, color="0.3", lw=0.8)
    if reference in rows.index:
        ax.axvspan(rows.low[reference], rows.high[reference], color=colours[reference], alpha=0.12)
    for place, (_, name) in enumerate(lines):
        if name in near.index:
            colour = colours[_kind(name, reference)]
            ax.hlines(place, rows.low[name], rows.high[name], color=colour, lw=1)
            ax.plot(rows.gain[name], place, "o", ms=3.5, color=colour)
        elif name in rows.index:
            side, text = (0, "left"), f" \u25c2 {rows.gain[name]:.1f}"
            if rows.gain[name] > 0:
                side, text = (1, "right"), f"{rows.gain[name]:+.1f} \u25b8 "
            ax.text(edges[side[0]], place, text, ha=side[1], va="center", size=6)
    ticks = ax.set_yticks(range(len(lines)), [label for label, _ in lines])
    for (_, name), tick in zip(lines, ticks, strict=True):
        tick.label1.set_fontweight("normal" if name else "bold")
    ax.set(xlim=edges, ylim=(len(lines) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")


def _kind(name: str, reference: str) -> str:
    """Return the name by which a method has its colour: that of the reference for all its variants."""
    return reference if name.startswith(reference) else name


def drawings(table: pd.DataFrame, dial: Dial) -> dict[str, tuple[pd.DataFrame, Callable[[pd.DataFrame], StudyFigure]]]:
    """Return file name -> the numbers of a figure and what draws it: one of a dial, one per value of an ablation."""
    if not dial.reference:
        return {f"dial-{dial.name}": (table, partial(dial_figure, dial=dial))}
    values = table.groupby("value", sort=False)
    return {f"dial-{dial.name}-{value}": (rows, partial(ablation_figure, dial=dial)) for value, rows in values}


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
        for stem, (numbers, draw) in drawings(table, dial).items():
            save(draw(numbers), base.figures, stem, numbers)
        shown.append(
            f"{dial.name}: {dial.title}\npredicted: {dial.prediction}\n{table.round(2).to_string(index=False)}"
        )
    return "\n\n".join([*shown, f"{base.folder / 'tables'}\n{base.figures}"])
