"""Figures of a whole study, drawn again from the committed records alone."""

import shutil
from pathlib import Path

import pytest

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


def test_a_study_without_runs_has_no_figures(tmp_path):
    study = Study(StudyConfig.parse({"profile": "smoke", "study": "empty"}), tmp_path)
    with pytest.raises(ValueError, match="has no finished run"):
        save_study_figures(study)
