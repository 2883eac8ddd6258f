"""Every question asked of a model, or of one that learnt no split, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from crodino_lib.analysis import (
    cka,
    collapse,
    factors,
    gap,
    mig_dci,
    mixing,
    probes,
    retrieval,
)
from crodino_lib.analysis.extraction import Latents, Unit
from crodino_lib.config import AnalysisConfig

ALL: tuple[Unit, ...] = ("image", "region", "pixel")
ROW_KEYS = ["unit", "question", "measure", "where"]


@dataclass(frozen=True)
class Question:
    """A module that answers one question, for which units, and which of its measures need rows that are pairs."""

    compute: Callable[..., dict[str, float]]
    units: tuple[Unit, ...]
    paired: tuple[str, ...] = ()


def questions(budget: AnalysisConfig, targets: pd.DataFrame) -> dict[str, Question]:
    """Name -> question. ``targets`` has a factor per column, a row per scene, indexed by scene id."""
    asked = {"targets": targets, "shuffles": budget.shuffles, "steps": budget.steps}
    return {
        "cka": Question(cka.compute, ALL, cka.PAIRED),
        "retrieval": Question(retrieval.compute, ("image", "region"), retrieval.PAIRED),
        "gap": Question(gap.compute, ALL),
        "mixing": Question(mixing.compute, ("region",)),
        "collapse": Question(collapse.compute, ALL),
        "class": Question(partial(probes.class_probes, steps=budget.steps), ("region",)),
        "modality": Question(partial(probes.modality_probes, steps=budget.steps), ("image", "region")),
        "factors": Question(partial(_factors, **asked), ("image",)),
        "place": Question(partial(_place, shuffles=budget.shuffles), ("pixel",)),
    }


def _factors(
    latents: Latents, n: int, generator: np.random.Generator, targets: pd.DataFrame, shuffles: int, steps: int
) -> dict[str, float]:
    """The scenes' factors; names with spaces become one word."""
    wanted = targets.loc[latents.rows["image"]].rename(columns=lambda name: name.replace(" ", "_"))
    if not wanted.columns.is_unique:
        twice = wanted.columns[wanted.columns.duplicated()]
        raise ValueError(f"factors have one name twice: {', '.join(twice)}")
    columns = {name: wanted[name].to_numpy() for name in wanted}
    return factors.compute(latents, columns, n, shuffles, generator, steps)


def _place(latents: Latents, n: int, generator: np.random.Generator, shuffles: int) -> dict[str, float]:
    """Where in the picture a cell lies, which convolutions know from their padding: a control for leakage."""
    where = {f"place_{axis}": latents.rows[axis].to_numpy() for axis in ("x", "y")}
    return factors.compute(latents, where, n, shuffles, generator, steps=0)


def ask(latents: Mapping[Unit, Latents], budget: AnalysisConfig, targets: pd.DataFrame, name: str) -> pd.DataFrame:
    """One question's answers about one model, for every unit that it has.

    Returns:
        One row per unit, measure and place: ``unit``, ``question``, ``measure``, ``where``, ``value``, ``rows``,
        ``images``.
    """
    question = questions(budget, targets)[name]
    records = []
    for unit in question.units:
        if unit not in latents:
            continue
        found = question.compute(latents[unit], n=budget.rows, generator=np.random.default_rng(budget.seed))
        seen = {"rows": found.pop("rows"), "images": found.pop("images")}
        for key, value in found.items():
            measure, _, where = key.partition(" ")
            records.append({"unit": unit, "question": name, "measure": measure, "where": where, "value": value} | seen)
    return pd.DataFrame(records, columns=[*ROW_KEYS, "value", "rows", "images"])


def split_scores(answers: pd.DataFrame) -> pd.DataFrame:
    """Block MIG and DCI of every sensor, from the probes' skill for class, modality and every factor.

    Args:
        answers: of the questions ``class``, ``modality`` and ``factors``.
    """
    skills = skill_matrix(answers)
    records, rested_on = [], answers[["rows", "images"]].max().to_dict()
    for sensor in dict.fromkeys(where.split("/")[0] for where in skills.columns):
        matrix = skills[[name for name in skills.columns if name.split("/")[0] == sensor]].to_numpy().T
        found = mig_dci.block_mig(matrix) | mig_dci.block_dci(matrix)
        for measure, value in found.items():
            row = {"unit": "all", "question": "split", "measure": measure, "where": sensor, "value": value}
            records.append(row | rested_on)
    return pd.DataFrame(records)


def skill_matrix(answers: pd.DataFrame, column: str = "value") -> pd.DataFrame:
    """Skill above chance, in [0, 1], of linear probes: one row per factor (and class and modality), a column per block.

    Of classes it is (accuracy - chance) / (1 - chance), of modality 2 accuracy - 1, the same for both sensors.

    Args:
        answers: about one model, of the questions ``class``, ``modality`` and ``factors``.
        column: ``value``, or the null whose skill is wanted.
    """
    linear = _linear(answers)
    wide, blocks = _wide(linear, column)
    chance = answers.loc[answers["measure"] == "class_chance", "value"].iloc[0]
    wide.loc["class"] = ((wide.loc["class"] - chance) / (1 - chance)).clip(lower=0)
    for block in blocks:
        wide.loc["modality", block] = np.maximum(2 * wide.loc["modality", block.split("/")[1]] - 1, 0.0)
    return wide[blocks]


def called_matrix(answers: pd.DataFrame) -> pd.DataFrame:
    """Which cells of ``skill_matrix`` are above every null and above the chance of shuffled factors.

    Args:
        answers: about one model, from ``beside_nulls``.
    """
    chances = answers[answers["measure"].str.endswith("_chance")]
    chance = {(m.removesuffix("_chance"), w): v for m, w, v in chances[["measure", "where", "value"]].to_numpy()}
    linear = _linear(answers)
    above = [
        float(called == "above" and value > chance.get((measure, where), -np.inf))
        for measure, where, value, called in linear[["measure", "where", "value", "called"]].to_numpy()
    ]
    wide, blocks = _wide(linear.assign(above=above), "above")
    for block in blocks:
        wide.loc["modality", block] = wide.loc["modality", block.split("/")[1]]
    return wide[blocks] > 0


def _wide(linear: pd.DataFrame, column: str) -> tuple[pd.DataFrame, list[str]]:
    """A row per measure, a column per place, also where all is NaN; and the places that are blocks."""
    wide = linear.set_index(["measure", "where"])[column].unstack(sort=False)
    return wide, [where for where in wide if "/" in where]


def _linear(answers: pd.DataFrame) -> pd.DataFrame:
    """The rows of linear probes that the factor matrix shows; of modality those of regions."""
    question, measure = answers["question"], answers["measure"]
    read = (question == "factors") & ~measure.str.endswith(("_mlp", "_chance"))
    told = ((question == "class") & (measure == "class")) | (
        (question == "modality") & (measure == "modality") & (answers["unit"] == "region")
    )
    return pd.concat([answers[told], answers[read]])
