"""What the laboratory asks of one model, or of one null of it, in a process of its own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from crodino_lib.analysis import ablation
from crodino_lib.analysis.ablation import ablate, bottlenecks, losses
from crodino_lib.analysis.extraction import Latents, Unit
from crodino_lib.analysis.null_models import dealt_anew, unpaired
from crodino_lib.analysis.suite import ask, questions, split_scores
from crodino_lib.config import AnalysisConfig
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.io import atomic_write


def answer(latents: dict[Unit, Latents], null: str, budget: AnalysisConfig, targets: pd.DataFrame, file: Path) -> None:
    """Ask one model, or one null of it, every question, and write the answers.

    Args:
        latents: unit -> latents of the model; of N1, of its network before training.
        null: ``value`` for the model itself, or the null's name; N3 and N4 are made here.
        budget: how much is looked at.
        targets: what probes are asked for, indexed by scene.
        file: where answers go: one row per unit, question, measure and place.
    """
    warnings.filterwarnings("ignore", category=RuntimeWarning)  # empty slices and constant channels are NaN by design
    warnings.filterwarnings("ignore", category=ConvergenceWarning)  # a probe's budget is part of what it is
    warnings.filterwarnings("ignore", message="The (least populated class|number of unique classes)")
    torch.set_num_threads(1)
    generator = np.random.default_rng([budget.seed, int(null[1]) if null != "value" else 0])
    if null == "N3":
        latents = {unit: dealt_anew(found, np.random.default_rng(budget.seed)) for unit, found in latents.items()}
    if null == "N4":
        latents = {unit: unpaired(found, generator) for unit, found in latents.items()}
    asked = [
        name
        for name, question in questions(budget, targets).items()
        if null != "N4" or question.paired  # shuffling rows changes nothing else
    ]
    answers = pd.concat([ask(latents, budget, targets, name) for name in asked], ignore_index=True)
    if null != "N4":
        answers = pd.concat([answers, split_scores(answers)], ignore_index=True)
    with atomic_write(file) as path:
        answers.to_csv(path, index=False)


def ablation_answers(
    students: Mapping[str, nn.Module], scenes: Scenes, card: DatasetCard, budget: AnalysisConfig
) -> pd.DataFrame:
    """mIoU with a half replaced: of the model (``value``), with channels dealt anew (N3), exchanged elsewhere (N4).

    Returns:
        One row per null, measure and sensor, as answers to the question ``ablation``.

    Raises:
        ValueError: networks whose decoder does not see both halves side by side.
    """
    seen = bottlenecks(students, scenes, card, budget.scenes, np.random.default_rng(budget.seed))
    width = next(iter(seen[0].contexts.values()))[0].shape[1]
    dealt = np.zeros(width, bool)
    dealt[np.random.default_rng(budget.seed).permutation(width)[: width // 2]] = True  # as in N3's latents
    records, untouched = [], {}
    asked = {
        "value": {},
        "N3": {"shared": dealt, "measures": ablation.MEASURES[1:]},  # the untouched model is the same
        "N4": {"elsewhere": True, "measures": ablation.PAIRED},
    }
    for null, how in asked.items():
        found = ablate(students, seen, len(card.classes), **how)
        count = found.pop("scenes")
        untouched = untouched or found
        for key, value in (found | losses(found, untouched)).items():
            measure, _, where = key.partition(" ")
            answered = {"null": null, "unit": "image", "question": "ablation", "measure": measure, "where": where}
            records.append(answered | {"value": value, "rows": count, "images": count})
    return pd.DataFrame(records)
