"""Draw what accuracy costs: mIoU against the operations of training."""

import pandas as pd

from crodino_lib.figures.base import StudyFigure, count, method_colours, printed, require, styled
from crodino_lib.methods.registry import method_title
from crodino_lib.study.statistics import interval_over

TICKS = (1, 1.5, 2, 3, 5, 8, 12, 20)


@styled
def cost_and_accuracy(table: pd.DataFrame, split: str = "test", width: str = "page") -> StudyFigure:
    """Draw mIoU with its interval against the cost of training, a panel per sensors at test and a colour per method.

    A panel's title has the cost of one inference. ``table`` is from ``comparison_table``; ValueError where no row of
    the split has a cost.
    """
    require(table, "method", "sensors at test", "split", "mIoU", "mIoU low", "mIoU high", "seeds")
    shown = table[(table["split"] == split) & table["cost of training"].notna()]
    if shown.empty:
        raise ValueError(
            f"the table has no cost on split {split!r}: costs are relative to a baseline that is not there"
        )
    panels, colours = (
        dict(list(shown.groupby("sensors at test", sort=False))),
        method_colours(dict.fromkeys(shown["method"])),
    )
    fewest, most_seeds = shown["seeds"].min(), shown["seeds"].max()
    seeds = count(most_seeds, "seed") if fewest == most_seeds else f"{fewest} to {most_seeds} seeds"
    caption = (
        f"mIoU on split {split} against operations relative to a baseline. Training has the teacher's in it; methods "
        f"that train networks of both sensors at once pay for both. {seeds}; bars: 95 % intervals over "
        f"{interval_over(fewest, most_seeds)}."
    )
    wide = width == "page"
    figure = StudyFigure(width, 72 if wide else 30 + 48 * len(panels), caption)
    axes = figure.panels(len(panels), sharex=True, sharey=True)
    most = shown["cost of training"].max()
    for ax, (sensors, rows) in zip(axes, panels.items(), strict=True):
        for row in rows.to_dict("records"):
            colour, label = colours[row["method"]], method_title(row["method"])
            ax.vlines(row["cost of training"], row["mIoU low"], row["mIoU high"], color=colour, lw=0.8)
            ax.plot(row["cost of training"], row["mIoU"], "o", color=colour, ms=4, label=label)
        cheapest, dearest = rows["cost of inference"].min(), rows["cost of inference"].max()
        inference = f"{cheapest:.2f}x" if dearest - cheapest < 0.005 else f"{cheapest:.2f}x to {dearest:.2f}x"
        ax.set(xscale="log", xlim=(0.85 * min(1, shown["cost of training"].min()), 1.25 * most))
        ax.set_title(f"{printed(sensors)} (inference {inference})", loc="left")
        ticks = [tick for tick in TICKS if tick <= 1.25 * most]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set(xlabel="cost of training (baseline: 1)", ylabel="mIoU (%)")
        ax.label_outer()
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=6 if wide else 3)
    return figure
