"""Measure what the analysis of latents costs, part by part.

    python benchmarks/latents.py STUDY [METHOD]

STUDY is a folder of results/local with a finished METHOD (default crodino-kd). Prints seconds of one process for one
model; ``crodino latents`` computes several models and their null models on all cores. Run nothing else beside it.
"""

import crodino_lib.losses  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from crodino_lib.analysis.ablation import ablation_table
from crodino_lib.analysis.extraction import extract
from crodino_lib.analysis.latent_analysis import LatentAnalysis
from crodino_lib.analysis.suite import METRICS, run_metric
from crodino_lib.analysis.trained_models import find_models
from crodino_lib.analysis.umap_embedding import fit_aligned_umap, fit_embeddings, read_frames
from crodino_lib.study.study import Study


def timed(name: str, act: Callable[[], Any], parts: dict[str, float]) -> Any:
    """Return what ``act`` returns, and store its seconds in ``parts``."""
    started = time.perf_counter()
    result = act()
    parts[name] = time.perf_counter() - started
    print(f"{name:40} {parts[name]:7.1f} s", flush=True)
    return result


def main(name: str, method: str = "crodino-kd") -> None:
    """Time every part for one model."""
    warnings.simplefilter("ignore")
    study, parts = Study.open(name), {}
    analysis, model = LatentAnalysis(study), find_models(study, [method])[0]
    scenes, config, run = study.scenes["test"], analysis.config, model.runs[0]
    latents = timed(f"latents of {len(scenes)} scenes", lambda: extract(run.method(study.card), scenes), parts)
    targets = timed("statistics of the images", lambda: analysis.targets, parts)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for metric in METRICS:
        timed(f"metric: {metric}", lambda m=metric: run_metric(m, latents, config, targets), parts)
    metrics = sum(seconds for part, seconds in parts.items() if part.startswith("metric"))
    torch.set_num_threads(threads)
    students = analysis.students(model)
    ablation = f"ablation of {config.scenes} scenes, with null models"
    timed(ablation, lambda: ablation_table(students, scenes, study.card, config.scenes, config.seed), parts)
    timed("UMAP, the first fit compiles", lambda: fit_embeddings(latents["region"], seeds=[0]), parts)
    timed("UMAP, both halves, five seeds", lambda: fit_embeddings(latents["region"]), parts)
    frames = read_frames(run.folder / "frames")
    timed("film of one half, which compiles", lambda: fit_aligned_umap(frames, "shared", seed=0), parts)
    print(f"\nall metrics of one model or null model: {metrics:.1f} s; {config}")
    print(pd.Series(parts).round(1).to_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
