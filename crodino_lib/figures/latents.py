"""Draw the factor matrix, and the metrics of models beside the range of their null models."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from crodino_lib.analysis.diagnosis import diagnose, summary_table
from crodino_lib.analysis.gain_correlations import SCORES
from crodino_lib.analysis.latent_analysis import LatentAnalysis, sensor_truth
from crodino_lib.analysis.null_models import NULL_MODELS, factor_table
from crodino_lib.analysis.trained_models import TrainedModel
from crodino_lib.figures.base import FLAG_COLOUR, StudyFigure, heatmap, printed, require, save, styled
from crodino_lib.methods.registry import method_title

NULL_MARKERS = dict(zip(NULL_MODELS, "os^D", strict=True))
PANELS_ACROSS = {"page": 4, "column": 2}
LEAST_SPAN = 0.05  # of an axis: differences that are smaller look small
FACTOR_CAPTION = (
    "Skill above chance (x 100; 100 is perfect) of linear probes that predict a factor from a block, on scenes they "
    "were not fitted on; mean over seeds. A number in a frame: above every null model (one draw of each) and, for "
    "factors, above the 95th percentile with the factor shuffled, in every seed; of so many cells some are framed by "
    "chance. Sensors: R² of a supervised regressor on the images themselves. Seen: measured in the images."
)
NULL_CAPTION = (
    "Ticks: models, one per seed. Grey: null models, one draw of each per seed, and their range. Flags are "
    "descriptive: an additional null model would be flagged in about half of the cases (45 % beside four null models, "
    "50 to 59 % beside three). Nothing is flagged beside fewer than three, as where a block is set to its mean."
)


@styled
def factor_matrix(table: pd.DataFrame, caption: str, width: str = "page") -> StudyFigure:
    """Draw how well factors (rows) are predicted from blocks or sensors (columns), a group of columns per model.

    ``table`` is from ``crodino_lib.analysis.null_models.factor_table``; flagged cells get a frame.
    """
    require(table, "group", "target", "sensor", "half", "skill", "flag")
    rows = list(dict.fromkeys(table["target"][table["half"] != ""])) or list(table["target"].unique())
    cells = table.assign(block=(table["sensor"] + " " + table["half"]).str.strip())
    groups = {title: group.drop_duplicates("block")["block"] for title, group in cells.groupby("group", sort=False)}
    wide = cells.set_index(["group", "target", "block"])[["skill", "flag"]].unstack("target")
    figure = StudyFigure(width, 26 + 3.7 * len(rows), caption)
    widths = [len(blocks) for blocks in groups.values()]
    axes = figure.subplots(1, len(groups), sharey=True, width_ratios=widths, squeeze=False)[0]
    for ax, (title, blocks) in zip(axes, groups.items(), strict=True):
        skill, flag = (wide.loc[title, name].reindex(index=blocks, columns=rows).T for name in ("skill", "flag"))
        printed_cells = skill if title == "sensors" else skill.where(flag.eq(True))
        heatmap(ax, skill, 100 * printed_cells, 6, vmax=1)
        for row, column in np.argwhere(flag.eq(True).to_numpy()):
            ax.add_patch(Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, fill=False, ec=FLAG_COLOUR, lw=0.8))
        ax.set_title(printed(method_title(title)).replace(" ", "\n", 1), fontsize=6 if width == "column" else 7)
        ax.set_xticks(ax.get_xticks(), [printed(name) for name in blocks], rotation=90)
    axes[0].set_yticks(axes[0].get_yticks(), [printed(row) for row in rows], rotation=0)
    return figure


@styled
def null_comparison(table: pd.DataFrame, caption: str, width: str = "page") -> StudyFigure:
    """Draw metrics of models beside those of their null models: a panel per metric, a line per model, a tick per seed.

    ``table`` is from ``crodino_lib.analysis.diagnosis.summary_table``.
    """
    require(table, "variant", "quantity", "value", "low", "high", "flag", *NULL_MARKERS)
    models, metrics = list(table["variant"].unique()), dict(list(table.groupby("quantity", sort=False)))
    across = PANELS_ACROSS[width]
    down = -(-len(metrics) // across)
    figure = StudyFigure(width, 8 + down * (11 + 4 * len(models)), caption)
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for ax in axes.flat[len(metrics) :]:
        ax.set_visible(False)
    for ax, (metric, rows) in zip(axes.flat, metrics.items(), strict=False):
        y, outside = rows["variant"].map(models.index), rows["flag"].isin(["above", "below"])
        ax.hlines(y, rows["low"], rows["high"], color="0.8", lw=4, zorder=1)
        for null, marker in NULL_MARKERS.items():
            ax.plot(rows[null], y, marker, color="0.45", ms=3, mew=0, label=printed(null))
        ticks = {"model, outside": (FLAG_COLOUR, outside), "model, not flagged": ("0.1", ~outside)}
        for label, (colour, these) in ticks.items():
            ax.plot(rows["value"][these], y[these], "|", color=colour, ms=9, mew=1.5, label=label)
        ax.set_yticks(range(len(models)), map(method_title, models))
        ax.set(title=printed(metric), ylim=(len(models) - 0.5, -0.5))
        left, right = ax.get_xlim()
        missing = max(0, LEAST_SPAN - (right - left)) / 2
        ax.set_xlim(left - missing, right + missing)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3 if width == "page" else 2
    )
    return figure


@styled
def correlation_figure(
    tables: Mapping[str, Mapping[str, pd.DataFrame]], caption: str, width: str = "page"
) -> StudyFigure:
    """Draw how scores of latents go with gains: a panel per question, a row per score.

    Args:
        tables: question -> ``value`` and names of null models -> table of ``rank_correlations``.
        caption: which models stand behind it.
        width: of the figure.
    """
    order = [name for name in SCORES if any(name in set(panel["value"].score) for panel in tables.values())]
    figure = StudyFigure(width, 20 + 4.2 * len(order) * (1 if width == "page" else len(tables)), caption)
    for ax, (question, panel) in zip(figure.panels(len(tables), sharey=True), tables.items(), strict=True):
        chance = panel["value"].chance.max()
        ax.axvspan(-chance, chance, color="0.92", label="largest of all by chance, 95 %")
        ax.axvline(0, color="0.3", lw=0.8)
        for null, table in panel.items():
            table = table[table.score.isin(order)]
            places, looks = table.score.map(order.index), {"color": "0.45", "ms": 3, "mew": 0, "label": printed(null)}
            if null == "value":
                colours = [FLAG_COLOUR if predicts else "0.4" for predicts in table.predicts]
                ax.hlines(places, table.low, table.high, color=colours, lw=1)
                looks = {"color": "0.1", "ms": 4, "label": "trained"}
            ax.plot(table.rho, places, NULL_MARKERS.get(null, "o"), **looks)
        ax.set_yticks(range(len(order)), [SCORES[name].title for name in order])
        ax.set(xlim=(-1, 1), ylim=(len(order) - 0.5, -0.5), xlabel="rank correlation with the gain")
        ax.set_title(question, loc="left")
        ax.grid(axis="x")
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4 if width == "page" else 2)
    return figure


def save_latent_figures(analysis: LatentAnalysis, models: Iterable[TrainedModel]) -> pd.DataFrame:
    """Compare models with their null models, and save tables, the factor matrix and the null comparison in the study.

    The tables ``latents_<split>``, its summary and the diagnoses also keep the models that were compared before.
    Returns the table of these models, from ``LatentAnalysis.compare``.
    """
    study, table = analysis.study, analysis.compare(models)
    whole = analysis.compare(analysis.compared())
    for suffix, content in (("", whole), ("_summary", summary_table(whole)), ("_diagnosis", diagnose(whole))):
        study.save_table(content, f"latents_{analysis.split}{suffix}")
    factors, summary = factor_table(table, sensor_truth(study)), summary_table(table)
    caption, end = analysis.caption(table), "" if analysis.split == "test" else f"_{analysis.split}"
    save(factor_matrix(factors, f"{FACTOR_CAPTION} {caption}"), study.figures, f"factor_matrix{end}", factors)
    save(null_comparison(summary, f"{NULL_CAPTION} {caption}"), study.figures, f"null_comparison{end}", summary)
    return table
