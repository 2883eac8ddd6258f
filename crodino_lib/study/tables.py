"""Compile tables from the records of runs, with the seeds and images that stand behind every number."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from crodino_lib.data.sample import SensorSet
from crodino_lib.io import atomic_write
from crodino_lib.study.runs import Run
from crodino_lib.study.statistics import interval, resampled_mious

ROW = ["dataset", "method", "teacher", "trained on", "sensors", "split"]  # what makes a row of the comparison


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Return one row per run, split and set of sensors: mIoU in percent, accuracy, images, teacher, cost.

    ``method`` holds every setting that differs, so runs that were trained differently never share a row.
    ``reference`` is the mIoU of the same seed's baseline; for sensors together, of the better of their baselines.
    ``low`` and ``high`` bound the mIoU at 95 % by resampling test images, ``gain low`` and ``gain high`` the gain over
    the reference by resampling the same images for both: the uncertainty of this one seed.
    """
    runs = list(runs)
    named, baselines, rows = list(zip(runs, _differing_settings(runs), strict=True)), {}, []
    for run, suffix in named:
        if run.name == "baseline":  # not with other settings, such as more steps
            for (split, sensor), counts in run.confusion().items():
                baselines[split, sensor, run.config.seed, suffix] = (100 * run.miou(sensor, split), counts)
    for run, suffix in named:
        for (split, sensors), counts in run.confusion().items():
            alone = [baselines.get((split, name, run.config.seed, suffix)) for name in SensorSet.parse(sensors)]
            reference = None if None in alone else max(alone, key=lambda pair: pair[0])
            rows.append(_run_row(run, run.name + suffix, split, sensors, counts, reference))
    return pd.DataFrame(rows)


def _differing_settings(runs: list[Run]) -> list[str]:
    """Return, for each run, the settings in which the runs differ besides their method and seed, as text."""
    flat = []
    for run in runs:
        config = run.record["config"]
        shared = {name: str(value) for part in ("data", "model", "train") for name, value in config[part].items()}
        flat.append({**shared, "scenes seen": run.record["dataset_fingerprint"][:6]})
    differing = sorted({name for one in flat for name in one if len({other.get(name) for other in flat}) > 1})
    if {"dataset"} & set(differing):  # another dataset has other scenes in any case
        differing = [name for name in differing if name not in ("dataset", "scenes seen", "options")]
    texts = [", ".join(f"{name} {settings[name]}" for name in differing if name in settings) for settings in flat]
    return [f" [{text}]" if text else "" for text in texts]


def _run_row(
    run: Run, method: str, split: str, sensors: str, counts: np.ndarray, reference: tuple[float, np.ndarray] | None
) -> dict:
    metric = run.metrics().set_index(["split", "sensors"]).loc[(split, sensors)]
    cost, teacher = run.record["cost"], run.record["parent"] or {}
    resampled = resampled_mious(counts, seed=0)
    low, high = interval(resampled)
    gain_low, gain_high = interval(resampled - (resampled_mious(reference[1], seed=0) if reference else np.nan))
    return {
        "dataset": run.config.data.dataset,
        "method": method,
        "teacher": f"{teacher['method']} {teacher['sensors']}" if teacher else "-",
        "trained on": str(SensorSet(run.config.sensors)),
        "sensors": sensors,
        "split": split,
        "seed": run.config.seed,
        "miou": 100 * metric.miou,
        "low": 100 * low,
        "high": 100 * high,
        "reference": reference[0] if reference else np.nan,
        "gain low": 100 * gain_low,
        "gain high": 100 * gain_high,
        "teacher miou": 100 * teacher["miou"].get(split, np.nan) if teacher else np.nan,
        "pixel accuracy": 100 * metric["pixel_accuracy"],
        "images": len(counts),
        "training images": run.record["training_images"],
        "unlabelled images": run.record.get("unlabelled_images", 0),
        "steps": cost["steps"],
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
    """Return one row per method, teacher, split and set of sensors: mean and spread over seeds, the gain, cost.

    The gain is over the baseline of the same sensor, or over the better one for sensors together, paired by seed: the
    same start and the same order of scenes. With one seed there is no spread, and the interval is that of resampling
    images alone.

    Args:
        table: from ``run_table``.

    Raises:
        ValueError: two runs of one row have the same seed; names them.
    """
    is_baseline = table.method.str.partition(" [")[0] == "baseline"
    flops = table[is_baseline].groupby("sensors").flops.first()
    rows, table = [], table.assign(gain=table.miou - table.reference)
    table.loc[is_baseline, ["gain", "gain low", "gain high"]] = np.nan  # over itself
    for key, group in table.groupby(ROW, sort=False):
        if group.seed.duplicated().any():
            raise ValueError(f"the runs {', '.join(group.run)} of {key[1]} have the same seed and the same settings")
        means, first = group.mean(numeric_only=True, skipna=False), group.iloc[0]
        rows.append(
            dict(zip(ROW, key, strict=True))
            | {"teacher mIoU": means["teacher miou"], "mIoU": means.miou, "sd over seeds": group.miou.std()}
            | {"image interval low": means.low, "image interval high": means.high}
            | {"gain": means.gain, "gain sd": group.gain.std(skipna=False)}
            | {"gain interval low": means["gain low"], "gain interval high": means["gain high"]}
            | {"seeds": len(group), "test images": first.images, "training images": first["training images"]}
            | {"unlabelled images": first["unlabelled images"], "steps": first.steps}
            | {"parameters": first.parameters}
            | {"cost of inference": first.flops / flops.get(SensorSet.parse(first.sensors)[0], np.nan)}
            | {"training minutes": means["training seconds"] / 60}
            | {"teacher minutes": means["teacher training seconds"] / 60}
        )
    return pd.DataFrame(rows).rename(columns={"sensors": "sensors at test"})


COST_COLUMNS = {  # column -> column of run_table and its unit
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


def cost_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return what every method costs to deploy and to train, the teacher's share apart; means over seeds.

    Args:
        table: from ``run_table``.

    Returns:
        One row per method, teacher, sensors trained with and sensors at test, with ``COST_COLUMNS``.
    """
    groups = table[table.split == "test"].groupby(ROW[1:-1], sort=False)
    return pd.DataFrame(
        {name: groups[column].mean() / unit for name, (column, unit) in COST_COLUMNS.items()}
    ).reset_index()


def class_table(runs: Iterable[Run], split: str = "test") -> pd.DataFrame:
    """Return the IoU in percent per class: one row per run, set of sensors and class; NaN where a class is absent."""
    rows = [
        {"method": run.name, "sensors": row["sensors"], "seed": run.config.seed, "class": name, "iou": iou}
        for run in runs
        for row in run.record["metrics"]
        if row["split"] == split
        for name, iou in row["class_iou"].items()
    ]
    return pd.DataFrame(rows).assign(iou=lambda table: 100 * table.iou.astype(float))


def as_text(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison as a person reads it: mean ± sd (or the interval of one seed), gain, seeds, cost."""

    def teacher(row: pd.Series) -> str:
        return f"{row['teacher']} ({row['teacher mIoU']:.1f})" if row["teacher"] != "-" else "-"

    own = comparison[["mIoU", "sd over seeds", "image interval low", "image interval high"]]
    gains = comparison[["gain", "gain sd", "gain interval low", "gain interval high"]]
    cost, unlabelled = comparison["cost of inference"], comparison["unlabelled images"]
    scenes = comparison["training images"].astype(str) + unlabelled.map(lambda count: f" + {count}" if count else "")
    return pd.DataFrame(
        {
            "method": comparison["method"],
            "teacher (its mIoU)": comparison.apply(teacher, axis=1),
            "sensors at test": comparison["sensors at test"],
            "split": comparison["split"],
            **({"scenes, labelled + not": scenes} if unlabelled.any() else {}),
            "mIoU": [_with_spread(*row) for row in own.to_numpy()],
            "gain over baseline": [_with_spread(*row, sign="+") for row in gains.to_numpy()],
            "seeds": comparison["seeds"],
            "inference cost": cost.map(lambda ratio: "-" if np.isnan(ratio) else f"{ratio:.2f}x"),
        }
    )


def _with_spread(mean: float, deviation: float, low: float, high: float, sign: str = "") -> str:
    """Return ``mean ± deviation``, or ``mean [low, high]`` of one seed, or a dash where there is no mean."""
    if np.isnan(mean):
        return "-"
    mean, low, high = (re.sub(r"^[+-]0\.0$", "0.0", f"{value:{sign}.1f}") for value in (mean, low, high))
    return f"{mean} [{low}, {high}]" if np.isnan(deviation) else f"{mean} ± {deviation:.1f}"


def to_markdown(table: pd.DataFrame) -> str:
    """Return a table of text as Markdown."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def save_tables(runs: list[Run], folder: Path, caveat: str, missing: Iterable[str] = ()) -> pd.DataFrame:
    """Write ``runs``, ``comparison``, ``costs`` and ``classes`` as CSV, ``comparison`` and ``costs`` as Markdown.

    Args:
        runs: finished runs.
        folder: where the tables go.
        caveat: sentence about the profile.
        missing: runs of the grid that are not finished, in words; listed below the comparison, which is returned.

    Raises:
        ValueError: no run is finished.
    """
    if not runs:
        raise ValueError(f"{folder.parent} has no finished run; crodino study trains the runs of a study")
    table = run_table(runs)
    comparison, costs = comparison_table(table), cost_table(table)
    frames = {"runs": table, "comparison": comparison, "costs": costs, "classes": class_table(runs)}
    contents = {f"{name}.csv": frame.to_csv(index=False, float_format="%.4f") for name, frame in frames.items()}
    absent = f"\nNot run: {'; '.join(missing)}.\n" if (missing := list(missing)) else ""
    contents["comparison.md"] = f"{to_markdown(as_text(comparison))}\n{caption(comparison, caveat)}\n{absent}"
    contents["costs.md"] = f"{to_markdown(costs.round(2))}\n{COST_CAPTION}\n"
    for name, content in contents.items():
        with atomic_write(folder / name) as path:
            path.write_text(content)
    return comparison


COST_CAPTION = (
    "Operations are counted, by torch.utils.flop_counter, on one scene and on about sixteen training steps; minutes, "
    "milliseconds and memory are this machine's, with whatever else ran on it. A teacher's own training is paid once "
    "for all methods that learn from it."
)


def caption(comparison: pd.DataFrame, caveat: str) -> str:
    """Return the caption of a comparison: what its numbers are, and what they are not."""
    spread = "mIoU in percent, mean ± standard deviation over seeds; gains are paired by seed"
    if comparison["seeds"].min() == 1:
        interval_of = "the 95 % interval of resampling test images, which does not cover other seeds"
        spread = f"mIoU in percent of one seed, with {interval_of}"
    return (
        f"{caveat} {spread}. Descriptive: a test over several methods needs eight paired seeds. Every method has the "
        "same encoder, optimiser, number of steps (x2 and x4: two and four times as many) and selection split. Cost of "
        "inference: operations of the student relative to its baseline's, more for fusion methods and some relatives. "
        "Gains of sensors together are over the better of their baselines. CroDiNo-KD and CSK-Net are reconstructions."
    )
