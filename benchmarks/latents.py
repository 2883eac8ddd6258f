"""What the laboratory of latents costs, part by part, and opening the explorer's page.

    python benchmarks/latents.py STUDY [METHOD]

STUDY is a folder of results/local with a finished METHOD (default crodino-kd). Prints seconds of one process for one
model; ``crodino latents`` asks several models and their nulls on all cores. Nothing else should run beside it.
"""

import crodino_lib  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from crodino_lib.analysis.aligned_umap import fit_film, read_frames
from crodino_lib.analysis.answers import ablation_answers
from crodino_lib.analysis.extraction import extract
from crodino_lib.analysis.latent_analysis import BATCH, Laboratory
from crodino_lib.analysis.manifold import fit_manifolds
from crodino_lib.analysis.suite import ask, questions
from crodino_lib.analysis.trained_models import find_models
from crodino_lib.config import AnalysisConfig
from crodino_lib.study.study import Study


def timed(name: str, act: Callable[[], Any], parts: dict[str, float]) -> Any:
    """What ``act`` returns; its seconds go into ``parts``."""
    started = time.perf_counter()
    found = act()
    parts[name] = time.perf_counter() - started
    print(f"{name:40} {parts[name]:7.1f} s", flush=True)
    return found


def main(name: str, method: str = "crodino-kd") -> None:
    """Time every part for one model."""
    warnings.simplefilter("ignore")
    study, parts = Study.open(name), {}
    laboratory, subject = Laboratory(study), find_models(study, [method])[0]
    scenes, budget = study.scenes["test"], AnalysisConfig()
    networks = subject.runs[0].method(study.card)
    latents = timed(
        f"latents of {len(scenes)} scenes, three units",
        lambda: extract(networks, scenes, study.card, subject.sensors, BATCH, torch.device("cpu")),
        parts,
    )
    targets = timed("statistics of the pictures", lambda: laboratory.targets, parts)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for question in questions(budget, targets):
        timed(f"question: {question}", lambda q=question: ask(latents, budget, targets, q), parts)
    asked = sum(seconds for part, seconds in parts.items() if part.startswith("question"))
    torch.set_num_threads(threads)
    students = laboratory.students(subject)
    timed(
        f"ablation of {budget.scenes} scenes, with N3, N4",
        lambda: ablation_answers(students, scenes, study.card, budget),
        parts,
    )
    regions = {subject.name: latents["region"]}
    timed("UMAP, the first fit compiles", lambda: fit_manifolds(regions, seeds=[0]), parts)
    timed("UMAP, both halves, five seeds", lambda: fit_manifolds(regions), parts)
    frames = read_frames(subject.runs[0].folder / "frames")
    timed("film of one half, which compiles", lambda: fit_film(frames, "shared", seed=0), parts)
    print(f"\nall questions of one model or null: {asked:.1f} s; {budget}")
    print(pd.Series(parts).round(1).to_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
