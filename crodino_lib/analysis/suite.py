"""Run every metric on a model or a null model, with the results in one table."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from crodino_lib.analysis import AnalysisConfig, Result, collapse, mig_dci, probes, retrieval, similarity
from crodino_lib.analysis.extraction import UNITS, Latents, Unit

KEYS = ["unit", "metric", "measure", "target", "sensor", "half"]
COLUMNS = [*KEYS, "value", "rows", "images"]


class Metric(NamedTuple):
    """A metric: ``compute(latents, generator)`` returns results for latents of exactly two sensors.

    ``paired`` are the measures that need row i of both sensors to be the same place; shuffled pairs are a null model of
    these. Only ``factors`` takes more: ``targets`` and ``shuffles``.
    """

    compute: Callable[..., list[Result]]
    units: tuple[Unit, ...]
    paired: tuple[str, ...] = ()


METRICS = {
    "cka": Metric(similarity.cka, UNITS, ("cka",)),
    "retrieval": Metric(retrieval.retrieval, UNITS, (*retrieval.SCORES, "rotated_recall_1")),
    "gap": Metric(similarity.gap, UNITS),
    "mixing": Metric(similarity.mixing, ("region",)),
    "collapse": Metric(collapse.collapse, UNITS),
    "class": Metric(probes.class_probes, ("region",)),
    "modality": Metric(probes.modality_probes, ("region",)),
    "factors": Metric(probes.factor_probes, ("image",)),
}


def run_metric(
    name: str, latents: Mapping[Unit, Latents], config: AnalysisConfig, targets: pd.DataFrame
) -> pd.DataFrame:
    """Compute one of ``METRICS`` of one model, for every unit that the metric and the model have.

    ``targets`` is what factor probes predict: one row per scene, indexed by its id. Returns a row per number: ``unit``,
    ``metric``, the fields of ``Result``, ``rows`` and ``images`` behind it.
    """
    metric, tables = METRICS[name], []
    options = {"targets": targets, "shuffles": config.shuffles} if name == "factors" else {}
    for unit in [unit for unit in metric.units if unit in latents]:
        if not len(latents[unit]):
            raise ValueError(f"there is no {unit} to compute {name} of; use more or larger images")
        generator = np.random.default_rng(config.seed)
        sample = latents[unit].sample(config.rows, generator)
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
    paired = {name: metric.paired for name, metric in METRICS.items() if metric.paired}
    table = pd.concat([run_metric(name, latents, config, targets) for name in paired])
    return table[table["measure"].isin(sum(paired.values(), ()))].reset_index(drop=True)


def split_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Compute block MIG and DCI of every sensor, from the skill of probes for class, modality and every factor."""
    results = []
    for sensor, skills in table[table["measure"] == "skill"].groupby("sensor", sort=False):
        matrix = skills.pivot(index="half", columns="target", values="value").to_numpy()
        scores = {"block_mig": mig_dci.block_mig(matrix)} | mig_dci.block_dci(matrix)
        results += [Result(measure, value, sensor) for measure, value in scores.items()]
    counts = table[["rows", "images"]].max().to_dict()
    return pd.DataFrame(results, columns=Result._fields).assign(unit="all", metric="split", **counts)[COLUMNS]
