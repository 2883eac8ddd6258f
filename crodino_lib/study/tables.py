"""Tables: what the runs say, with the seeds and images that stand behind every number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from crodino_lib.evaluate import interval, resampled_mious
from crodino_lib.files import replacing
from crodino_lib.study.runs import Run


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per run, split and set of sensors: mIoU in percent, accuracy, images, cost.

    ``low`` and ``high`` bound the mIoU at 95 % by resampling test images, ``gain low`` and ``gain high`` the gain over
    the baseline of the same seed by resampling the same images for both: the uncertainty of this one seed.
    """
    runs = list(runs)
    references = {
        (key, run.config.seed): resampled_mious(confusion, seed=0)
        for run in runs
        if run.config.method == "baseline"
        for key, confusion in run.confusion().items()
    }
    rows = []
    for run in runs:
        confusion = run.confusion()
        for key, metric in run.record["metrics"].items():
            split, sensors = key.split("/")
            resampled = resampled_mious(confusion[key], seed=0)
            low, high = interval(resampled)
            reference = references.get((key, run.config.seed), np.full_like(resampled, np.nan))
            gain_low, gain_high = interval(resampled - reference)
            students = run.record["cost"]["students"]
            rows.append(
                {
                    "dataset": run.config.data.dataset,
                    "method": run.config.method,
                    "trained on": "+".join(run.config.sensors),
                    "sensors": sensors,
                    "split": split,
                    "seed": run.config.seed,
                    "miou": 100 * metric["miou"],
                    "low": 100 * low,
                    "high": 100 * high,
                    "gain low": 100 * gain_low,
                    "gain high": 100 * gain_high,
                    "pixel accuracy": 100 * metric["pixel_accuracy"],
                    "images": metric["images"],
                    "training images": run.record["training_images"],
                    "epochs": run.config.train.epochs,
                    "parameters": students[sensors]["parameters"] if sensors in students else None,
                    "flops": students[sensors]["flops"] if sensors in students else None,
                    "training seconds": run.record["cost"]["train_seconds"],
                    "run": run.folder.name,
                }
            )
    return pd.DataFrame(rows)


def comparison_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per method, split and set of sensors: mean and spread over seeds, the gain over the baseline, cost.

    The gain is paired by seed: the same start and the same order of scenes. With one seed there is no spread, and the
    interval is that of resampling images alone.

    Args:
        table: from ``run_table``.
    """
    baseline = table[table.method == "baseline"].set_index(["split", "sensors", "seed"]).miou
    rows = []
    for (method, sensors, split), group in table.groupby(["method", "sensors", "split"], sort=False):
        keys = pd.MultiIndex.from_frame(group[["split", "sensors", "seed"]])
        gains = group.miou.to_numpy() - baseline.reindex(keys).to_numpy()
        reference = table[(table.method == "baseline") & (table.sensors == sensors)]
        rows.append(
            {
                "method": method,
                "sensors at test": sensors,
                "split": split,
                "mIoU": group.miou.mean(),
                "sd over seeds": group.miou.std(ddof=1) if len(group) > 1 else np.nan,
                "image interval low": group.low.mean(),
                "image interval high": group.high.mean(),
                "gain": gains.mean() if method != "baseline" else np.nan,
                "gain interval low": group["gain low"].mean(),
                "gain interval high": group["gain high"].mean(),
                "gain sd": gains.std(ddof=1) if method != "baseline" and len(group) > 1 else np.nan,
                "seeds": len(group),
                "test images": int(group.images.iloc[0]),
                "training images": int(group["training images"].iloc[0]),
                "parameters": group.parameters.iloc[0],
                "cost of inference": group.flops.iloc[0] / reference.flops.iloc[0] if len(reference) else np.nan,
                "training minutes": group["training seconds"].mean() / 60,
            }
        )
    return pd.DataFrame(rows)


def class_table(runs: Iterable[Run], split: str = "test") -> pd.DataFrame:
    """IoU in percent per class: one row per run, set of sensors and class; NaN where a class is absent."""
    return pd.DataFrame(
        [
            {
                "method": run.config.method,
                "sensors": key.split("/")[1],
                "seed": run.config.seed,
                "class": name,
                "iou": iou,
            }
            for run in runs
            for key, metric in run.record["metrics"].items()
            if key.split("/")[0] == split
            for name, iou in metric["class_iou"].items()
        ]
    ).assign(iou=lambda table: 100 * table.iou.astype(float))


def as_text(comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison as a person reads it: mean ± sd (or the interval of one seed), gain, seeds, images, cost."""

    def spread(row: pd.Series) -> str:
        if row["seeds"] > 1:
            return f"{row['mIoU']:.1f} ± {row['sd over seeds']:.1f}"
        return f"{row['mIoU']:.1f} [{row['image interval low']:.1f}, {row['image interval high']:.1f}]"

    def gain(row: pd.Series) -> str:
        if np.isnan(row["gain"]):
            return "-"
        if row["seeds"] > 1:
            return f"{signed(row['gain'])} ± {row['gain sd']:.1f}"
        return f"{signed(row['gain'])} [{signed(row['gain interval low'])}, {signed(row['gain interval high'])}]"

    def signed(value: float) -> str:
        return f"{value:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")

    return pd.DataFrame(
        {
            "method": comparison["method"],
            "sensors at test": comparison["sensors at test"],
            "split": comparison["split"],
            "mIoU": comparison.apply(spread, axis=1),
            "gain over baseline": comparison.apply(gain, axis=1),
            "seeds": comparison["seeds"],
            "test images": comparison["test images"],
            "training images": comparison["training images"],
            "inference cost": comparison["cost of inference"].map("{:.2f}x".format, na_action="ignore").fillna("-"),
            "training min, run": comparison["training minutes"].map("{:.1f}".format),
        }
    )


def to_markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def save_tables(runs: list[Run], folder: Path, says: str) -> pd.DataFrame:
    """Write ``runs.csv``, ``comparison.csv``, ``classes.csv`` and ``comparison.md``; return the comparison.

    Args:
        runs: finished runs.
        folder: where the tables go.
        says: what the profile's numbers are good for.
    """
    table = run_table(runs)
    comparison = comparison_table(table)
    for name, frame in {"runs": table, "comparison": comparison, "classes": class_table(runs)}.items():
        with replacing(folder / f"{name}.csv") as path:
            frame.to_csv(path, index=False, float_format="%.4f")
    with replacing(folder / "comparison.md") as path:
        path.write_text(f"{to_markdown(as_text(comparison))}\n{caption(comparison, says)}\n")
    return comparison


def caption(comparison: pd.DataFrame, says: str) -> str:
    """What the numbers of a comparison are, and what they are not."""
    seeds = sorted(set(comparison["seeds"]))
    spread = (
        "mIoU in percent, mean ± standard deviation over seeds; gains are paired by seed"
        if seeds[0] > 1
        else "mIoU in percent of one seed, with the 95 % interval of resampling test images, "
        "which says nothing of other seeds"
    )
    return (
        f"{says} {spread}. Descriptive: a test over several rows needs eight paired seeds. Every row has the same "
        "network, optimiser, steps and selection split. Training minutes are those of the whole run, with all its "
        "students and its validation. CroDiNo-KD rows are reconstructions."
    )
