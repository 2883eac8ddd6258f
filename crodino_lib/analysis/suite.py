"""Run every metric on a model or a null model, with the results in one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crodino_lib.analysis import cka, collapse, factors, gap, mig_dci, mixing, probes, retrieval
from crodino_lib.analysis._common import Result, check_two_sensors
from crodino_lib.analysis.extraction import UNITS, Latents, Unit
from crodino_lib.config import AnalysisConfig

KEYS = ["unit", "metric", "measure", "target", "sensor", "half"]
COLUMNS = [*KEYS, "value", "rows", "images"]


@dataclass(frozen=True)
class Metric:
    """A metric: ``compute(latents, generator, **options)`` returns results.

    Attributes:
        compute: takes latents of exactly two sensors.
        units: what it is computed for.
        paired: measures that need row i of both sensors to be the same place; shuffled pairs are a null model of these.
        options: fields of ``AnalysisConfig``, or ``targets``, that it takes.
    """

    compute: Callable[..., list[Result]]
    units: tuple[Unit, ...]
    paired: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


METRICS = {
    "cka": Metric(cka.compute, UNITS, cka.PAIRED),
    "retrieval": Metric(retrieval.compute, UNITS, retrieval.PAIRED),
    "gap": Metric(gap.compute, UNITS),
    "mixing": Metric(mixing.compute, ("region",)),
    "collapse": Metric(collapse.compute, UNITS),
    "class": Metric(probes.class_probes, ("region",)),
    "modality": Metric(probes.modality_probes, ("region",)),
    "factors": Metric(factors.factor_probes, ("image",), options=("targets", "shuffles")),
}


def run_metric(
    name: str, latents: Mapping[Unit, Latents], config: AnalysisConfig, targets: pd.DataFrame
) -> pd.DataFrame:
    """Compute one metric of one model, for every unit that the metric and the model have.

    Args:
        name: one of ``METRICS``.
        latents: unit -> latents of two sensors with both halves.
        config: how much data is used.
        targets: what factor probes predict: one row per scene, indexed by its id.

    Returns:
        One row per number: ``unit``, ``metric``, the fields of ``Result``, ``rows`` and ``images`` behind it.
    """
    metric, tables = METRICS[name], []
    options = {key: value for key, value in config.model_dump().items() if key in metric.options}
    options |= {"targets": targets} if "targets" in metric.options else {}
    for unit in [unit for unit in metric.units if unit in latents]:
        if not len(latents[unit]):
            raise ValueError(f"there is no {unit} to compute {name} of; use more or larger images")
        generator = np.random.default_rng(config.seed)
        sample = check_two_sensors(latents[unit]).sample(config.rows, generator)
        table = pd.DataFrame(metric.compute(sample, generator, **options), columns=Result._fields)
        count = {"rows": len(sample), "images": len(np.unique(sample.images))}
        tables.append(table.assign(unit=unit, metric=name, **count))
    return pd.concat(tables)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)


def run_suite(latents: Mapping[Unit, Latents], config: AnalysisConfig, targets: pd.DataFrame) -> pd.DataFrame:
    """Compute every metric of one model, and from the probes' skills the scores of its split."""
    table = pd.concat([run_metric(name, latents, config, targets) for name in METRICS], ignore_index=True)
    return pd.concat([table, split_scores(table)], ignore_index=True)


def run_paired(latents: Mapping[Unit, Latents], config: AnalysisConfig, targets: pd.DataFrame) -> pd.DataFrame:
    """Compute the measures that need pairs, which are all that shuffled pairs can change."""
    tables = []
    for name, metric in METRICS.items():
        if metric.paired:
            table = run_metric(name, latents, config, targets)
            tables.append(table[table["measure"].isin(metric.paired)])
    return pd.concat(tables, ignore_index=True)


def split_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Compute block MIG and DCI of every sensor, from the skill of probes for class, modality and every factor."""
    results = []
    for sensor, skills in probe_skills(table).groupby("sensor", sort=False):
        matrix = skills.pivot(index="half", columns="target", values="value").to_numpy()
        scores = {"block_mig": mig_dci.block_mig(matrix)} | mig_dci.block_dci(matrix)
        results += [Result(measure, value, sensor) for measure, value in scores.items()]
    counts = table[["rows", "images"]].max().to_dict()
    return pd.DataFrame(results, columns=Result._fields).assign(unit="all", metric="split", **counts)[COLUMNS]


def probe_skills(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of linear probes' skill above chance, in [0, 1], for class, modality and factors."""
    return table[table["measure"] == "skill"]
