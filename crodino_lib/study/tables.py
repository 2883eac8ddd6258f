"""Tables: what the runs say, with the seeds and images that stand behind every number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from crodino_lib.evaluate import interval, resampled_mious
from crodino_lib.io import atomic_write
from crodino_lib.study.runs import Run


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per run, split and set of sensors: mIoU in percent, accuracy, images, teacher, cost.

    ``reference`` is the mIoU of the same seed's baseline; for sensors together, of the better of their baselines.
    ``low`` and ``high`` bound the mIoU at 95 % by resampling test images, ``gain low`` and ``gain high`` the gain over
    the reference by resampling the same images for both: the uncertainty of this one seed.
    """
    runs = list(runs)
    references = {
        (*key.split("/"), run.config.seed): (100 * run.record["metrics"][key]["miou"], confusion)
        for run in runs
        if run.config.method == "baseline"
        for key, confusion in run.confusion().items()
    }
    rows = []
    for run in runs:
        for key, confusion in run.confusion().items():
            split, sensors = key.split("/")
            alone = [references.get((split, sensor, run.config.seed)) for sensor in sensors.split("+")]
            reference = None if None in alone else max(alone, key=lambda found: found[0])
            rows.append(_run_row(run, split, sensors, confusion, reference))
    return pd.DataFrame(rows)


def _run_row(
    run: Run, split: str, sensors: str, confusion: np.ndarray, reference: tuple[float, np.ndarray] | None
) -> dict:
    metric, cost = run.record["metrics"][f"{split}/{sensors}"], run.record["cost"]
    teacher = run.record["parent"] or {}
    resampled = resampled_mious(confusion, seed=0)
    low, high = interval(resampled)
    gain_low, gain_high = interval(resampled - (resampled_mious(reference[1], seed=0) if reference else np.nan))
    return {
        "dataset": run.config.data.dataset,
        "method": run.config.method,
        "teacher": "+".join([teacher["method"], teacher["sensors"]]) if teacher else "-",
        "trained on": "+".join(run.config.sensors),
        "sensors": sensors,
        "split": split,
        "seed": run.config.seed,
        "miou": 100 * metric["miou"],
        "low": 100 * low,
        "high": 100 * high,
        "reference": reference[0] if reference else np.nan,
        "gain low": 100 * gain_low,
        "gain high": 100 * gain_high,
        "teacher miou": 100 * teacher["miou"].get(f"{split}/{teacher['sensors']}", np.nan) if teacher else np.nan,
        "pixel accuracy": 100 * metric["pixel_accuracy"],
        "images": metric["images"],
        "training images": run.record["training_images"],
        "epochs": run.config.train.epochs,
        **{name: cost["students"][sensors][name] for name in ("parameters", "flops", "latency_ms")},
        "training seconds": cost["train_seconds"],
        "training flops": cost["train_flops"],
        "teacher forward flops": cost["teacher_flops"],
        "peak memory bytes": cost["peak_memory_bytes"],
        "teacher training seconds": teacher.get("train_seconds", 0.0),
        "teacher training flops": teacher.get("train_flops", 0),
        "run": run.folder.name,
    }


def comparison_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per method, teacher, split and set of sensors: mean and spread over seeds, the gain, cost.

    The gain is over the baseline of the same sensor, or over the better one for sensors together, paired by seed: the
    same start and the same order of scenes. With one seed there is no spread, and the interval is that of resampling
    images alone.

    Args:
        table: from ``run_table``.
    """
    rows = []
    for (method, teacher, sensors, split), group in table.groupby(
        ["method", "teacher", "sensors", "split"], sort=False
    ):
        gains = (group.miou - group.reference).to_numpy() if method != "baseline" else np.full(len(group), np.nan)
        rows.append(
            {
                "method": method,
                "teacher": teacher,
                "teacher mIoU": group["teacher miou"].mean(),
                "sensors at test": sensors,
                "split": split,
                "mIoU": group.miou.mean(),
                "sd over seeds": group.miou.std(ddof=1) if len(group) > 1 else np.nan,
                "image interval low": group.low.mean(),
                "image interval high": group.high.mean(),
                "gain": gains.mean(),
                "gain interval low": group["gain low"].mean(),
                "gain interval high": group["gain high"].mean(),
                "gain sd": gains.std(ddof=1) if len(group) > 1 else np.nan,
                "seeds": len(group),
                "test images": int(group.images.iloc[0]),
                "training images": int(group["training images"].iloc[0]),
                "parameters": group.parameters.iloc[0],
                "cost of inference": group.flops.iloc[0] / _baseline_flops(table, sensors),
                "training minutes": group["training seconds"].mean() / 60,
                "teacher minutes": group["teacher training seconds"].mean() / 60,
            }
        )
    return pd.DataFrame(rows)


def _baseline_flops(table: pd.DataFrame, sensors: str) -> float:
    """Operations of the baseline of the first of these sensors; NaN where there is none."""
    found = table[(table.method == "baseline") & (table.sensors == sensors.split("+")[0])].flops
    return found.iloc[0] if len(found) else np.nan


def cost_table(table: pd.DataFrame) -> pd.DataFrame:
    """What every row costs to deploy and to train, the teacher's share apart.

    Args:
        table: from ``run_table``.

    Returns:
        One row per method, teacher, sensors trained with and sensors at test: inference parameters (millions), GFLOPs
        and milliseconds of one scene; teraFLOPs of training, of which the teacher's forward passes, minutes and peak
        gigabytes; the teacher's own training in teraFLOPs and minutes. Means over seeds.
    """
    table = table[table.split == "test"]
    groups = table.groupby(["method", "teacher", "trained on", "sensors"], sort=False)
    units = {
        "M parameters": ("parameters", 1e6),
        "GFLOPs": ("flops", 1e9),
        "latency ms": ("latency_ms", 1),
        "training TFLOPs": ("training flops", 1e12),
        "of which teacher": ("teacher forward flops", 1e12),
        "training min": ("training seconds", 60),
        "peak GB": ("peak memory bytes", 1e9),
        "teacher's training TFLOPs": ("teacher training flops", 1e12),
        "teacher's training min": ("teacher training seconds", 60),
    }
    return pd.DataFrame({name: groups[column].mean() / unit for name, (column, unit) in units.items()}).reset_index()


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

    def teacher(row: pd.Series) -> str:
        return f"{row['teacher']} ({row['teacher mIoU']:.1f})" if row["teacher"] != "-" else "-"

    def signed(value: float) -> str:
        return f"{value:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")

    return pd.DataFrame(
        {
            "method": comparison["method"],
            "teacher (its mIoU)": comparison.apply(teacher, axis=1),
            "sensors at test": comparison["sensors at test"],
            "split": comparison["split"],
            "mIoU": comparison.apply(spread, axis=1),
            "gain over baseline": comparison.apply(gain, axis=1),
            "seeds": comparison["seeds"],
            "test images": comparison["test images"],
            "training images": comparison["training images"],
            "inference cost": comparison["cost of inference"].map(
                lambda cost: "-" if np.isnan(cost) else f"{cost:.2f}x"
            ),
            "training min, run": comparison["training minutes"].map("{:.1f}".format),
            "teacher's": comparison["teacher minutes"].map(lambda minutes: f"{minutes:.1f}" if minutes else "-"),
        }
    )


def to_markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def save_tables(runs: list[Run], folder: Path, says: str, missing: Iterable[str] = ()) -> pd.DataFrame:
    """Write ``runs``, ``comparison``, ``costs`` and ``classes`` as CSV, ``comparison`` and ``costs`` as Markdown.

    Args:
        runs: finished runs.
        folder: where the tables go.
        says: what the profile's numbers are good for.
        missing: runs of the grid that are not finished, in words; listed below the comparison.

    Returns:
        The comparison.
    """
    table = run_table(runs)
    comparison, costs = comparison_table(table), cost_table(table)
    for name, frame in {"runs": table, "comparison": comparison, "costs": costs, "classes": class_table(runs)}.items():
        with atomic_write(folder / f"{name}.csv") as path:
            frame.to_csv(path, index=False, float_format="%.4f")
    absent = "; ".join(missing)
    with atomic_write(folder / "comparison.md") as path:
        path.write_text(f"{to_markdown(as_text(comparison))}\n{caption(comparison, says)}\n")
        if absent:
            path.write_text(f"{path.read_text()}\nNot run: {absent}.\n")
    with atomic_write(folder / "costs.md") as path:
        path.write_text(f"{to_markdown(costs.round(2))}\n{COST_CAPTION}\n")
    return comparison


COST_CAPTION = (
    "Operations are counted, by torch.utils.flop_counter, on one scene and on about sixteen training steps; minutes, "
    "milliseconds and memory are this machine's, with whatever else ran on it. A teacher's own training is paid once "
    "for all its rows."
)


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
        "network, optimiser, steps and selection split. Gains of sensors together are over the better of their "
        "baselines. Training minutes are those of the whole run, with all its students and its validation; its "
        "teacher's are paid once for all its rows. CroDiNo-KD and CSK-Net rows are reconstructions."
    )
