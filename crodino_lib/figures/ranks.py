"""Rank methods over settings, and draw which of them a test cannot tell apart."""

from collections.abc import Mapping, Sequence

import pandas as pd
from scikit_posthocs import critical_difference_diagram, posthoc_nemenyi_friedman

from crodino_lib.figures.base import StudyFigure, method_colours, styled
from crodino_lib.methods.registry import method_title

FEWEST = 5  # settings; with fewer, no difference of three methods can reach 5 %


def mious_by_setting(tables: Mapping[str, pd.DataFrame], methods: Sequence[str]) -> pd.DataFrame:
    """Return the mIoU of methods (columns) in every setting in which all of them were trained, each setting once.

    ``tables`` are from ``dial_table``, by the name of the dial; the index has the setting and the student.
    """
    rows = []
    for dial, table in tables.items():
        for (value, student), group in table.groupby(["value", "student"], sort=False):
            found = dict(zip(group["control"], group["control miou"], strict=True))
            found |= dict(zip(group["method"], group["miou"], strict=True))
            rows.append({"setting": f"{dial} {value}", "student": student} | found)
    wide = pd.DataFrame(rows, columns=["setting", "student", *methods]).set_index(["setting", "student"])
    return wide.dropna().drop_duplicates()


@styled
def rank_diagram(wide: pd.DataFrame, width: str = "column") -> StudyFigure:
    """Draw the mean ranks of methods over settings, and a bar across those that Nemenyi's test cannot tell apart.

    ``wide`` is from ``mious_by_setting``; ValueError for fewer than three methods or too few settings.
    """
    if len(wide) < FEWEST or len(wide.columns) < 3:
        found = f"{len(wide)} settings and {len(wide.columns)} methods"
        raise ValueError(f"a rank diagram needs {FEWEST} settings and 3 methods, not {found}")
    caption = (
        f"Mean rank of the test mIoU over {len(wide)} settings; 1 is best. A bar joins methods that Nemenyi's test does"
        " not tell apart at 5 %. Settings share scenes and starts, which the test does not know."
    )
    figure = StudyFigure(width, 16 + 4 * len(wide.columns), caption)
    ranks = wide.rank(axis=1, ascending=False).mean().rename(method_title)
    colours = {method_title(name): colour for name, colour in method_colours(wide.columns).items()}
    apart = posthoc_nemenyi_friedman(wide.to_numpy()).set_axis(ranks.index, axis=0).set_axis(ranks.index, axis=1)
    looks = {"label_props": {"size": 7}, "marker_props": {"s": 10}, "crossbar_props": {"linewidth": 2}}
    looks |= {"label_fmt_left": "{label} ({rank:.1f})", "label_fmt_right": "({rank:.1f}) {label}"}
    ax = figure.subplots()
    ax.set_title(f"mean rank over {len(wide)} settings (1 is best)", fontsize=7)
    critical_difference_diagram(ranks, apart, ax=ax, color_palette=colours, **looks)
    return figure
