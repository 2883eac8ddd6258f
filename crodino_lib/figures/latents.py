"""Draw the factor matrix, and the metrics of models beside the range of their null models."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from crodino_lib.analysis.diagnosis import summary_table
from crodino_lib.analysis.latent_analysis import LatentAnalysis, save_latent_tables, sensor_truth
from crodino_lib.analysis.null_comparison import factor_table
from crodino_lib.analysis.null_models import NULL_MODELS
from crodino_lib.analysis.trained_models import TrainedModel
from crodino_lib.figures.base import FLAG_COLOUR, MISSING_COLOUR, StudyFigure, printed, require_columns, save, styled

MODEL, QUANTITY, VALUE, LOW, HIGH, FLAG = "variant", "quantity", "value", "low", "high", "flag"  # of the summary
NULL_MARKERS = dict(zip(NULL_MODELS, "os^D", strict=True))
PANELS_ACROSS = 4
LEAST_SPAN = 0.05  # of an axis: differences that are smaller look small
FACTOR_CAPTION = (
    "Skill above chance (x 100; 100 is perfect) of linear probes that predict a factor from a block, on scenes they "
    "were not fitted on; mean over seeds. Framed: above every null model (one draw of each) and, for factors, above "
    "95 % of 20 shuffles, in every seed; of so many cells some are framed by chance. Sensors: R² of a supervised "
    "regressor on the images themselves. Seen: measured in the images."
)
NULL_CAPTION = (
    "Ticks: models, one per seed. Grey: null models, one draw of each per seed, and their range. Flags are "
    "descriptive: an additional null model would be flagged in about half of the cases (45 % beside four null models, "
    "50 to 59 % beside three). Nothing is flagged beside fewer than three, as where a block is set to its mean."
)


@styled
def factor_matrix(table: pd.DataFrame, caption: str, width: str = "page") -> StudyFigure:
    """Draw how well factors (rows) are predicted from blocks or sensors (columns), a group of columns per model.

    Args:
        table: from ``crodino_lib.analysis.null_comparison.factor_table``; flagged cells get a frame.
        caption: scenes, probes, seeds, chance.
        width: ``column`` or ``page``.
    """
    require_columns(table, "group", "target", "sensor", "half", "skill", FLAG)
    rows = list(dict.fromkeys(table["target"][table["half"] != ""])) or list(dict.fromkeys(table["target"]))
    cells = table.assign(block=(table["sensor"] + " " + table["half"]).str.strip())
    groups = {title: group.drop_duplicates("block")["block"] for title, group in cells.groupby("group", sort=False)}
    wide = cells.set_index(["group", "target", "block"])[["skill", FLAG]].unstack("target")
    figure = StudyFigure(width, 26 + 3.7 * len(rows), caption)
    widths = [len(blocks) for blocks in groups.values()]
    axes = figure.subplots(1, len(groups), sharey=True, width_ratios=widths, squeeze=False)[0]
    for ax, (title, blocks) in zip(axes, groups.items(), strict=True):
        skill, flag = (wide.loc[title, name].reindex(index=blocks, columns=rows).T for name in ("skill", FLAG))
        numbers = skill.map(lambda value: "" if np.isnan(value) else f"{100 * value:.0f}")
        sns.heatmap(
            skill.astype(float), vmin=0, vmax=1, cmap="cividis", cbar=False, linewidths=0.3, ax=ax, annot=numbers,
            fmt="", annot_kws={"size": 4.5}, xticklabels=True, yticklabels=True,
        )  # fmt: skip
        for row, column in np.argwhere(flag.eq(True).to_numpy()):
            ax.add_patch(Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, fill=False, ec=FLAG_COLOUR, lw=0.8))
        ax.set(xlabel="", ylabel="", facecolor=MISSING_COLOUR)
        ax.set_title(printed(title).replace(" ", "\n", 1), fontsize=5.5)
        ax.set_xticks(ax.get_xticks(), [printed(name) for name in blocks], rotation=90, fontsize=5)
        ax.tick_params(length=0)
    axes[0].set_yticks(axes[0].get_yticks(), [printed(row) for row in rows], rotation=0, fontsize=5.5)
    return figure


@styled
def null_comparison(table: pd.DataFrame, caption: str) -> StudyFigure:
    """Draw metrics of models beside those of their null models: a panel per metric, a line per model, a tick per seed.

    Args:
        table: from ``crodino_lib.analysis.diagnosis.summary_table``.
        caption: scenes, rows, seeds.
    """
    require_columns(table, MODEL, QUANTITY, VALUE, LOW, HIGH, FLAG, *NULL_MARKERS)
    quantities, models = (list(dict.fromkeys(table[name])) for name in (QUANTITY, MODEL))
    down = -(-len(quantities) // PANELS_ACROSS)
    figure = StudyFigure("page", 8 + down * (11 + 4 * len(models)), caption)
    axes = figure.subplots(down, PANELS_ACROSS, squeeze=False, sharey=True)
    for ax in axes.flat[len(quantities) :]:
        ax.set_visible(False)
    for ax, quantity in zip(axes.flat, quantities, strict=False):
        for _, row in table[table[QUANTITY] == quantity].iterrows():
            y = models.index(row[MODEL])
            ax.plot([row[LOW], row[HIGH]], [y, y], color="0.8", lw=4, solid_capstyle="butt", zorder=1)
            for null, marker in NULL_MARKERS.items():
                ax.plot(row[null], y, marker, color="0.45", ms=3, mew=0, zorder=2)
            colour = FLAG_COLOUR if row[FLAG] in ("above", "below") else "0.1"
            ax.plot(row[VALUE], y, "|", color=colour, ms=9, mew=1.5, zorder=3)
        ax.set(title=printed(quantity), ylim=(len(models) - 0.5, -0.5))
        ax.set_yticks(range(len(models)), models)
        left, right = ax.get_xlim()
        if (missing := LEAST_SPAN - (right - left)) > 0:
            ax.set_xlim(left - missing / 2, right + missing / 2)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", lw=0.3, color="0.85")
    handles = [ax.plot([], [], m, color="0.45", ms=4, label=printed(null))[0] for null, m in NULL_MARKERS.items()]
    handles += [
        ax.plot([], [], "|", color=colour, ms=8, mew=2, ls="", label=label)[0]
        for colour, label in ((FLAG_COLOUR, "model, outside"), ("0.1", "model, inside the range of null models"))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=6)
    return figure


def save_latent_figures(analysis: LatentAnalysis, models: Iterable[TrainedModel]) -> pd.DataFrame:
    """Compare models with their null models, and save tables, the factor matrix and the null comparison in the study.

    Returns:
        The table of these models, from ``LatentAnalysis.compare``.
    """
    study, table = analysis.study, save_latent_tables(analysis, models)
    factors, summary = factor_table(table, sensor_truth(study)), summary_table(table)
    caption, end = analysis.caption(table), analysis.suffix
    save(factor_matrix(factors, f"{FACTOR_CAPTION} {caption}"), study.figures, f"factor_matrix{end}", factors)
    save(null_comparison(summary, f"{NULL_CAPTION} {caption}"), study.figures, f"null_comparison{end}", summary)
    return table
