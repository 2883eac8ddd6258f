"""Draw an ablation: every variant of a method beside its reference and the controls."""

import pandas as pd

from crodino_lib.figures.base import StudyFigure, method_colours, printed, require, styled
from crodino_lib.figures.dials import dial_caption
from crodino_lib.methods.registry import method_title
from crodino_lib.study.dials import Dial


@styled
def ablation_figure(table: pd.DataFrame, dial: Dial, control: str = "baseline", width: str = "page") -> StudyFigure:
    """Draw the difference of every variant to a control, a panel per student, under the headings of the ablation.

    A band marks the interval of the reference. ``table`` is from ``dial_table``, of one value; ``control`` may be the
    reference itself. ValueError where nothing was compared with the control.
    """
    require(table, "value", "student", "method", "control", "gain", "low", "high", "seeds")
    table = table[table.control == control]
    groups = {heading: [name for name in names if name in set(table.method)] for heading, names in dial.groups.items()}
    lines = [line for heading, names in groups.items() if names for line in (heading, *((heading, n) for n in names))]
    students = [student for student in dial.students if student in set(table.student)]
    if not lines or table.value.nunique() != 1:
        raise ValueError(f"an ablation is drawn at one value over {control!r}, found {sorted(set(table.value))}")
    caption = f"{dial.title}: {table.value.iloc[0]}. Difference in mIoU to {method_title(control)}. {dial_caption(table)}"
    wide = width == "page"
    figure = StudyFigure(width, (14 + 3.6 * len(lines)) * (1 if wide else len(students)), caption)
    shape = (1, len(students)) if wide else (len(students), 1)
    colours = method_colours(dict.fromkeys(name.partition(":")[0] for name in table.method))
    for ax, student in zip(figure.subplots(*shape, sharey=True, squeeze=False).flat, students, strict=True):
        rows = table[table.student == student].set_index("method")
        ax.axvline(0, color="0.3", lw=0.8)
        if dial.reference in rows.index:
            ax.axvspan(rows.low[dial.reference], rows.high[dial.reference], color=colours[dial.reference], alpha=0.12)
        for place, line in enumerate(lines):
            if isinstance(line, tuple) and line[1] in rows.index:
                row, colour = rows.loc[line[1]], colours[line[1].partition(":")[0]]
                ax.hlines(place, row.low, row.high, color=colour, lw=1)
                ax.plot(row.gain, place, "o", ms=3.5, color=colour)
        labels = [line if isinstance(line, str) else dial.groups[line[0]][line[1]] for line in lines]
        for line, label in zip(lines, ax.set_yticks(range(len(lines)), labels), strict=True):
            label.label1.set_fontweight("bold" if isinstance(line, str) else "normal")
        ax.set(ylim=(len(lines) - 0.4, -0.6), xlabel="difference in mIoU (points)")
        ax.set_title(f"{printed(student)} student", loc="left")
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
    return figure
