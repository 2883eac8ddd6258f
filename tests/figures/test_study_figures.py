"""Figures of a whole study, drawn again from the committed records alone."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from crodino_lib.analysis.umap_embedding import Embeddings
from crodino_lib.config import StudyConfig
from crodino_lib.figures.study_figures import save_study_figures
from crodino_lib.study.study import Study

TOUR = Path(__file__).parents[2] / "results" / "reference" / "rooms-tour"


def test_the_figures_of_records_are_drawn_without_data_weights_or_training(tmp_path, monkeypatch):
    for name in ("rooms-tour", "rooms-tour-oracle-0.0", "rooms-tour-oracle-1.0"):
        shutil.copytree(TOUR.parent / name, tmp_path / name, ignore=shutil.ignore_patterns("figures", "*.html"))
    study = Study.open(str(tmp_path / "rooms-tour"))
    monkeypatch.setattr(Study, "dataset", None)  # nothing may open it
    files = save_study_figures(study)
    assert {file.stem for file in files} == {"gains", "cost_and_accuracy", "class_differences", "dial-oracle"}
    assert {file.suffix for file in files} == {".pdf", ".svg", ".png", ".txt", ".csv"}
    assert all(file.stat().st_size for file in files)
    for stem in ("gains", "class_differences", "dial-oracle"):  # the reference was drawn from the same records
        assert (study.figures / f"{stem}.csv").read_text() == (TOUR / "figures" / f"{stem}.csv").read_text()


def test_figures_of_latents_are_drawn_again_from_what_is_kept(tmp_path):
    kept = {f"{stem}.{suffix}" for stem in ("factor_matrix", "null_comparison") for suffix in ("csv", "txt")}
    leave = shutil.ignore_patterns("*.html", "*.png")
    shutil.copytree(TOUR, tmp_path / "tour", ignore=leave)
    study = Study.open(str(tmp_path / "tour"))
    names = ["crodino-kd", "crodino-kd, untrained"]
    places = {"sensor": "rgb", "image": "a", "class": 0, "name": "wall", "x": 0.0, "y": 0.0, "embedding": "UMAP"}
    rows = [{"model": name, "half": half} for name in names for half in ("shared", "private")]
    quality = {
        "embedding": "UMAP",
        "points": 1,
        "seed": 0,
        "seeds": 1,
        "k": 15,
        "cross_modality_hd": 0.25,
        "remark": "",
    }
    Embeddings(pd.DataFrame(rows).assign(**places), pd.DataFrame(rows).assign(**quality)).save(
        study.figures / "latent_manifolds.npz"
    )
    drawn = {file.name for file in save_study_figures(study)}
    assert {"factor_matrix.pdf", "null_comparison.svg", "one_or_two.png"} <= drawn
    for name in kept:
        assert (study.figures / name).read_text() == (TOUR / "figures" / name).read_text()


def test_a_study_without_runs_has_no_figures(tmp_path):
    study = Study(StudyConfig.parse({"profile": "smoke", "study": "empty"}), tmp_path)
    with pytest.raises(ValueError, match="has no finished run"):
        save_study_figures(study)
