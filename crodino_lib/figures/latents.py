"""What the latents hold, drawn: the factor matrix, and numbers beside the range of their nulls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import Rectangle

from crodino_lib.figures.base import MISSING_COLOUR, TWO_COLUMNS_MM, StudyFigure, styled

CALLED_COLOUR = "#D55E00"
FACTOR_CAPTION = (
    "Skill above chance (x 100; 100 is perfect) of linear probes that read a factor from a block, on scenes they were "
    "not fitted on; s shared, p private half; mean over seeds. Framed: above every null (one draw of each) and, "
    "of factors, above 95 % of 20 shuffles, in every seed; of so many cells some are framed by chance. "
    "The sensors' own columns: R² of a supervised regressor on the pictures themselves. Seen: measured in the pictures."
)
NULL_CAPTION = (
    "Models' numbers (ticks, one per seed) beside those of models that learnt no split (N1 to N4, one draw of each per "
    "seed); grey: the nulls' range. A call is no test: one more null would itself be called in about half of the cases "
    "(45 % beside four nulls, 50 to 59 % beside three). Beside fewer than three nothing is called out, as where a half "
    "is set to its mean."
)
NULL_MARKERS = {"N1": "o", "N2": "s", "N3": "^", "N4": "D"}


@styled
def factor_matrix(groups: Mapping[str, pd.DataFrame], called: Mapping[str, pd.DataFrame], caption: str) -> StudyFigure:
    """What is read from where: factors in rows, blocks in columns, a group of columns per model, null or sensors.

    Args:
        groups: title -> skill above chance, 0..1, one row per factor, one column per block; all with the same rows.
        called: title -> bool of the same shape: cells that leave the nulls' range get a frame.
        caption: scenes, probes, seeds, chance.

    Raises:
        ValueError: groups whose rows differ.
    """
    rows = list(next(iter(groups.values())).index)
    if wrong := [title for title, group in groups.items() if list(group.index) != rows]:
        raise ValueError(f"the rows of {', '.join(wrong)} differ from those of {next(iter(groups))}")
    widths = [group.shape[1] for group in groups.values()]
    figure = StudyFigure(TWO_COLUMNS_MM, 34 + 3.7 * len(rows), caption)
    axes = figure.subplots(1, len(groups), sharey=True, width_ratios=widths, squeeze=False)[0]
    for ax, (title, group) in zip(axes, groups.items(), strict=True):
        numbers = group.map(lambda value: "" if np.isnan(value) else f"{100 * value:.0f}")
        sns.heatmap(
            group.astype(float), vmin=0, vmax=1, cmap="cividis", cbar=False, linewidths=0.3, ax=ax, annot=numbers,
            fmt="", annot_kws={"size": 4.5}, xticklabels=True, yticklabels=True,
        )  # fmt: skip
        frames = called.get(title, pd.DataFrame()).reindex(index=group.index, columns=group.columns, fill_value=False)
        for row, column in np.argwhere(frames.to_numpy(bool)):
            ax.add_patch(Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, fill=False, ec=CALLED_COLOUR, lw=0.8))
        ax.set(xlabel="", ylabel="", facecolor=MISSING_COLOUR)
        ax.set_title(title.replace(" ", "\n", 1), fontsize=5.5)
        ax.set_xticks(ax.get_xticks(), [_short(name) for name in group], rotation=90, fontsize=5)
        ax.tick_params(length=0)
    axes[0].set_yticks(axes[0].get_yticks(), rows, rotation=0, fontsize=5.5)
    return figure


def _short(block: str) -> str:
    """``s rgb`` of ``rgb/shared``; sensors keep their name."""
    sensor, _, half = block.partition("/")
    return f"{half[0]} {sensor}" if half else sensor


@styled
def beside_nulls(table: pd.DataFrame, caption: str) -> StudyFigure:
    """Numbers of models beside those of their nulls: one panel per quantity, one line per row, a tick for every seed.

    Args:
        table: from ``latents.reading.reading_table``.
        caption: scenes, rows, permutations, seeds.
    """
    quantities = list(dict.fromkeys(table["quantity"]))
    models = list(dict.fromkeys(table["row"]))
    across = 4
    down = -(-len(quantities) // across)
    figure = StudyFigure(TWO_COLUMNS_MM, 22 + down * (11 + 4.2 * len(models)), caption)
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for ax in axes.flat[len(quantities) :]:
        ax.set_visible(False)
    for ax, quantity in zip(axes.flat, quantities, strict=False):
        for _, row in table[table["quantity"] == quantity].iterrows():
            y = models.index(row["row"])
            ax.plot([row["low"], row["high"]], [y, y], color="0.8", lw=4, solid_capstyle="butt", zorder=1)
            for null, marker in NULL_MARKERS.items():
                ax.plot(row[null], y, marker, color="0.45", ms=3, mew=0, zorder=2)
            outside = row["called"] in ("above", "below")
            ax.plot(row["value"], y, "|", color=CALLED_COLOUR if outside else "0.1", ms=9, mew=2, zorder=3)
        ax.set_title(quantity)
        ax.set_yticks(range(len(models)), models)
        ax.set_ylim(len(models) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", lw=0.3, color="0.85")
    handles = [ax.plot([], [], marker, color="0.45", ms=4, label=null)[0] for null, marker in NULL_MARKERS.items()]
    handles += [
        ax.plot([], [], "|", color=colour, ms=8, mew=2, ls="", label=label)[0]
        for colour, label in ((CALLED_COLOUR, "model, outside the nulls' range"), ("0.1", "model, inside"))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=6)
    return figure
