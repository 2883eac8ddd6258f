"""Draw what is left when a sensor fails, and how far a network's confidence can be believed."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from crodino_lib.analysis.robustness import Confidence
from crodino_lib.data.sample import SensorSet
from crodino_lib.figures.base import StudyFigure, count, method_colours, printed, require, sensor_styles, styled
from crodino_lib.methods.registry import method_title

FEWEST = 0.002  # share of the pixels of a bin whose accuracy is drawn


@styled
def fault_curves(table: pd.DataFrame, sensor: str, width: str = "page") -> StudyFigure:
    """Draw a panel per fault of one sensor: mIoU against severity, a line per method and sensors at test.

    Solid lines have the broken sensor among others, dotted lines have it alone, dashed lines do not have it. At
    severity 0 nothing is broken. ``table`` is from ``robustness_table``, of one split; ValueError where the sensor has
    no fault with a severity in it.
    """
    require(table, "method", "seed", "split", "sensors", "sensor", "fault", "severity", "images", "miou")
    faults = list(dict.fromkeys(table.fault[(table.sensor == sensor) & (table.severity > 0)]))
    if not faults:
        raise ValueError(f"the table has no fault of {sensor}; it has some of {', '.join(set(table.sensor) - {'-'})}")
    across = min(len(faults), 4 if width == "page" else 2)
    down = -(-len(faults) // across)
    most = table.severity.max()
    caption = (
        f"mIoU when {printed(sensor)} fails, by severity; 0: nothing is broken. Solid: networks of several sensors; "
        f"dotted: of {printed(sensor)} alone; dashed: without it, so that nothing changes. "
        f"{count(table.seed.nunique(), 'seed')}, {count(table.images.iloc[0], 'image')}, split {table.split.iloc[0]}."
    )
    figure = StudyFigure(width, 22 + 42 * down, caption)
    axes = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    means = table.groupby(["method", "sensors", "sensor", "fault", "severity"]).miou.mean()
    colours = method_colours(dict.fromkeys(table.method))
    for ax, fault in zip(axes, faults, strict=False):
        for method, sensors in dict.fromkeys(zip(table.method, table.sensors, strict=True)):
            whole, served = means[method, sensors, "-", "none", 0], SensorSet.parse(sensors)
            style = "--" if sensor not in served else ":" if len(served) == 1 else "-"
            found = means[method, sensors, sensor, fault] if sensor in served else pd.Series(whole, [most])
            line = pd.concat([pd.Series({0: whole}), found])
            label = f"{method_title(method)}, {printed(sensors)}"
            marked = "o" if sensor in served else ""
            ax.plot(line.index, line, style, marker=marked, ms=2.5, color=colours[method], lw=1.2, label=label)
        ax.set_title(fault, loc="left")
        ax.set_xlabel("severity")
        ax.set(xticks=sorted({0, *table.severity}), ylim=(0, None))
    for ax in axes[len(faults) :]:
        ax.set_visible(False)
    figure.axes[0].set_ylabel("mIoU (%)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4 if across > 2 else 2)
    return figure


@styled
def reliability(found: Mapping[str, Confidence], width: str = "column") -> StudyFigure:
    """Draw accuracy against confidence, a line per network or condition; marks grow with the share of the pixels."""
    caption = (
        "Accuracy of the pixels of equal confidence, in fifteen bins; on the diagonal a network is right as often as "
        "it is sure. Larger marks: more pixels; bins with less than 0.2 % of them are left out. ECE: expected "
        "calibration error."
    )
    figure = StudyFigure(width, 70, caption)
    ax = figure.subplots()
    ax.plot([0, 100], [0, 100], color="0.6", lw=0.8)
    styles = sensor_styles(found) if set(found) <= {"rgb", "depth", "thermal"} else {}
    for name, one in found.items():
        share, confidence, accuracy = one.bins[one.bins[:, 0] > FEWEST].T
        label, colour = f"{printed(name)} (ECE {100 * one.ece:.1f} %)", styles.get(name, (None,))[0]
        (line,) = ax.plot(100 * confidence, 100 * accuracy, lw=1, color=colour, label=label)
        ax.scatter(100 * confidence, 100 * accuracy, s=2 + 60 * share, color=line.get_color())
    ax.set(xlabel="confidence (%)", ylabel="accuracy (%)", xlim=(0, 101), ylim=(0, 101), xticks=np.arange(0, 101, 20))
    ax.legend(loc="upper left")
    return figure
