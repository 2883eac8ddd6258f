"""Compile tables from the records of runs, with the seeds and images that stand behind every number."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from crodino_lib.data.sample import SensorSet
from crodino_lib.io import atomic_write
from crodino_lib.study.formats import in_formats
from crodino_lib.study.gains import Row, Scores, gain_table, rows_of, scores_of
from crodino_lib.study.published import published_caption, published_text
from crodino_lib.study.runs import Run
from crodino_lib.study.statistics import ENOUGH_SEEDS, FEWEST_SEEDS, interval_over

KEY = ["dataset", "method", "teacher", "trained on", "sensors", "split"]  # what makes a row of the comparison
GAINS = {"baseline": "gain", "self-training": "cross-modal gain"}  # control -> column of the gain over it


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Return one row per run, split and set of sensors: mIoU in percent, accuracy, images, teacher, cost.

    ``method`` holds every setting that differs, so runs that were trained differently never share a name.
    """
    runs = list(runs)
    rows = [
        _run_row(run, row, split, sensors, counts)
        for run, row in zip(runs, rows_of(runs), strict=True)
        for (split, sensors), counts in run.confusion().items()
    ]
    return pd.DataFrame(rows)


def _run_row(run: Run, row: Row, split: str, sensors: str, counts: np.ndarray) -> dict:
    metric = run.metrics().set_index(["split", "sensors"]).loc[(split, sensors)]
    cost, teacher = run.record["cost"], run.record["parent"] or {}
    return {
        "dataset": run.config.data.dataset,
        "method": row.name,
        "teacher": row.teacher,
        "trained on": row.trained_on,
        "sensors": sensors,
        "split": split,
        "seed": run.config.seed,
        "miou": 100 * metric.miou,
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


def comparison_table(runs: Iterable[Run], scores: Mapping[tuple[str, str], Scores] | None = None) -> pd.DataFrame:
    """Return one row per method, teacher, split and set of sensors: mIoU, gains over controls, verdict, cost.

    Gains are paired by seed (the same start, order and labelled scenes) and by test image; ``statistics.Estimate`` says
    what their intervals cover. ``gain`` is over the baseline of the same sensor, or over the better one for sensors
    together, ``cross-modal gain`` over self-training, each with its ends and its number of seeds. ``verdict`` is over
    self-training, or over the baseline where self-training was not run. ``place`` is 1 for the best row of its sensors
    and those that cannot be told from it, 2 for the next. Costs are relative to a baseline of the first sensor; that of
    training has the teacher's in it. ``scores`` are those of the runs, where they were computed before.

    Raises:
        ValueError: two runs of one row have the same seed; names them.
    """
    runs = list(runs)
    scores, table = scores or scores_of(runs), run_table(runs)
    table["training with teacher"] = table["training flops"] + table["teacher training flops"]
    first_runs = table.drop_duplicates(["method", "sensors"]).set_index(["method", "sensors"])
    places, gains, rows = {key: one.places() for key, one in scores.items()}, all_gains(scores), []
    for key, group in table.groupby(KEY, sort=False):
        *_, sensors, split = key
        means, first, found = group.mean(numeric_only=True, skipna=False), group.iloc[0], scores[split, sensors]
        row = next(row for row in found.counts if row.key == key[1:4])
        low, high = found.estimate(row).interval()
        base = first_runs.reindex([("baseline" + row.settings, SensorSet.parse(sensors)[0])]).iloc[0]
        named = dict(zip(KEY, key, strict=True)) | {"teacher mIoU": means["teacher miou"]}
        named |= {"mIoU": means.miou, "mIoU low": low, "mIoU high": high, "sd over seeds": group.miou.std()}
        named |= _gains_of(gains[(gains.split == split) & (gains.sensors == sensors)], row)
        named |= {"place": places[split, sensors].get(row), "seeds": len(group), "test images": first.images}
        named |= {name: first[name] for name in ("training images", "unlabelled images", "steps", "parameters")}
        named |= {"cost of inference": first.flops / base.flops}
        named |= {"cost of training": first["training with teacher"] / base["training flops"]}
        named |= {"training minutes": means["training seconds"] / 60}
        rows.append(named | {"teacher minutes": means["teacher training seconds"] / 60})
    return pd.DataFrame(rows).rename(columns={"sensors": "sensors at test"})


def all_gains(scores: Mapping[tuple[str, str], Scores]) -> pd.DataFrame:
    """Return the gains of every split, with its name in the first column."""
    splits = dict.fromkeys(split for split, _ in scores)
    tables = {split: gain_table(scores, split) for split in splits}
    return pd.concat(
        [table.assign(split=split)[["split", *table]] for split, table in tables.items()], ignore_index=True
    )


def _gains_of(table: pd.DataFrame, row: Row) -> dict:
    """Return the gains of a row over both controls, with their ends, and the verdict over the stricter one."""
    mine = table[(table[["method", "teacher", "trained on"]] == list(row.key)).all(axis=1)]
    mine, found = mine.set_index("control"), {"verdict": "-"}
    for control, name in GAINS.items():
        gain = mine.loc[control] if control in mine.index else pd.Series(np.nan, ["gain", "low", "high"])
        found |= {name: gain.gain, f"{name} low": gain.low, f"{name} high": gain.high}
        found[f"{name} seeds"] = gain.get("seeds", 0)
        found["verdict"] = gain.get("verdict", found["verdict"])
    return found


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
    groups = table[table.split == "test"].groupby(KEY[1:-1], sort=False)
    return pd.DataFrame(
        {name: groups[column].mean() / unit for name, (column, unit) in COST_COLUMNS.items()}
    ).reset_index()


def class_table(runs: Iterable[Run], split: str = "test") -> pd.DataFrame:
    """Return the IoU in percent per class: one row per run, set of sensors and class; NaN where a class is absent."""
    runs = list(runs)
    rows = [
        {"method": named.name, "sensors": row["sensors"], "seed": run.config.seed, "class": name, "iou": iou}
        for run, named in zip(runs, rows_of(runs), strict=True)
        for row in run.record["metrics"]
        if row["split"] == split
        for name, iou in row["class_iou"].items()
    ]
    return pd.DataFrame(rows).assign(iou=lambda table: 100 * table.iou.astype(float))


def as_text(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison as a person reads it: means with their intervals, verdict, seeds, cost."""

    def teacher(row: pd.Series) -> str:
        return f"{row['teacher']} ({row['teacher mIoU']:.1f})" if row["teacher"] != "-" else "-"

    def bounded(name: str, sign: str = "") -> list[str]:
        return [_bounded(*row, sign) for row in comparison[[name, f"{name} low", f"{name} high"]].to_numpy()]

    crossed, unlabelled = bounded("cross-modal gain", "+"), comparison["unlabelled images"]
    scenes = comparison["training images"].astype(str) + unlabelled.map(lambda count: f" + {count}" if count else "")
    columns = {
        "method": comparison["method"],
        "teacher (its mIoU)": comparison.apply(teacher, axis=1),
        "sensors at test": comparison["sensors at test"],
        "split": comparison["split"],
        "scenes, labelled + not": scenes if unlabelled.any() else None,
        "mIoU": bounded("mIoU"),
        "gain over baseline": bounded("gain", "+"),
        "gain over self-training": crossed if comparison["cross-modal gain"].notna().any() else None,
        "verdict": comparison["verdict"] if (comparison["verdict"] != "-").any() else None,
        "seeds": comparison["seeds"],
        **{f"{name} cost": comparison[f"cost of {name}"].map(_times) for name in ("inference", "training")},
        "published mIoU (baseline)": published_text(comparison),
    }
    return pd.DataFrame({name: column for name, column in columns.items() if column is not None})


def _bounded(mean: float, low: float, high: float, sign: str) -> str:
    """Return ``mean [low, high]``, or a dash where there is no mean."""
    if np.isnan(mean):
        return "-"
    mean, low, high = (re.sub(r"^[+-]0\.0$", "0.0", f"{value:{sign}.1f}") for value in (mean, low, high))
    return f"{mean} [{low}, {high}]"


def _times(ratio: float) -> str:
    return "-" if np.isnan(ratio) else f"{ratio:.2f}x"


def save_tables(runs: list[Run], folder: Path, caveat: str, missing: Iterable[str] = ()) -> pd.DataFrame:
    """Write the comparison, gains, costs and IoU per class of some runs as CSV, Markdown, HTML and LaTeX.

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
    table, scores = run_table(runs), scores_of(runs)
    comparison, gains = comparison_table(runs, scores), all_gains(scores)
    costs, classes = cost_table(table), class_table(runs)
    frames = {"runs": table, "comparison": comparison, "gains": gains, "costs": costs, "classes": classes}
    contents = {f"{name}.csv": frame.to_csv(index=False, float_format="%.4f") for name, frame in frames.items()}
    absent = f" Not run: {'; '.join(missing)}." if (missing := list(missing)) else ""
    below = caption(comparison, caveat) + absent
    contents |= in_formats("comparison", as_text(comparison), below, comparison["place"])
    contents |= in_formats(
        "costs", costs.map(lambda value: f"{value:.2f}" if isinstance(value, float) else value), COST_CAPTION
    )
    contents |= in_formats("classes", _class_text(classes), f"{caveat} {CLASS_CAPTION}")
    for name, content in contents.items():
        with atomic_write(folder / name) as path:
            path.write_text(content)
    return comparison


def _class_text(classes: pd.DataFrame) -> pd.DataFrame:
    """Return the IoU per class, a column per method and sensors: means over seeds, a dash where a class is absent."""
    means = classes.groupby(["class", "method", "sensors"], sort=False).iou.mean()
    wide = means.unstack(["method", "sensors"]).reindex(pd.Index(dict.fromkeys(classes["class"]), name="class"))
    wide.columns = [f"{method} ({sensors})" for method, sensors in wide.columns]
    return wide.map(lambda iou: "-" if np.isnan(iou) else f"{iou:.1f}").reset_index()


CLASS_CAPTION = "IoU in percent per class on the test split, means over seeds."
COST_CAPTION = (
    "Operations are counted, by torch.utils.flop_counter, on one scene and on about sixteen training steps; minutes, "
    "milliseconds and memory are this machine's, with whatever else ran on it. A teacher's own training is paid once "
    "for all methods that learn from it."
)


def caption(comparison: pd.DataFrame, caveat: str) -> str:
    """Return the caption of a comparison: what its numbers are, and what they are not."""
    gained = comparison[comparison["gain"].notna()]
    counts = [*comparison["seeds"], *gained["gain seeds"]]
    fewest, most = min(counts), max(counts)
    tested = "Descriptive: a test takes eight paired seeds."
    if most >= ENOUGH_SEEDS:
        tested = (
            "Tests, where there are eight paired seeds: the larger p of Wilcoxon's over seeds and of the interval's, "
            "corrected by Holm over the comparisons named before the runs, and over the others; no family of more than "
            "six can reach 5 % with eight seeds. Equivalent: within one point of mIoU, not corrected."
        )
    judged = " Verdict: over self-training, else over the baseline." if most >= FEWEST_SEEDS else ""
    return (
        f"{caveat} mIoU in percent, gains in points; 95 % intervals over {interval_over(fewest, most)}.{judged} "
        f"{tested} Every method has the same encoder, optimiser, steps (x2 and x4: two and four times as many) and "
        "selection split. Costs count operations relative to a baseline, with the teacher's training. Gains of sensors "
        "together are over the better of their baselines. CroDiNo-KD and CSK-Net are reconstructions."
        f"{published_caption(comparison)}"
    )
