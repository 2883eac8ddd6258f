"""The laboratory on a tiny study: whom it finds, what it asks, what it keeps."""

import json
import shutil
from itertools import product
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis import answers as answering
from crodino_lib.analysis import latent_analysis as module
from crodino_lib.analysis import pictures as drawing
from crodino_lib.analysis.findings import factor_groups, save_findings
from crodino_lib.analysis.latent_analysis import Laboratory
from crodino_lib.analysis.null_models import NULLS
from crodino_lib.analysis.trained_models import find_models
from crodino_lib.config import AnalysisConfig, ModelConfig, RunConfig, StudyConfig, TrainConfig
from crodino_lib.explorer import collect
from crodino_lib.study.runs import fetch_run
from crodino_lib.study.study import Study

SENSORS = ("rgb", "depth")
SMALL = ModelConfig(encoder="mobilenetv3_small_050", weights="none", block_channels=16, decoder_channels=16)
LITTLE = AnalysisConfig(rows=60, shuffles=3, steps=1, scenes=6)
ROWS = (("baseline", ("rgb",)), ("baseline", ("depth",)), ("crodino-kd", SENSORS), ("early", SENSORS))


@pytest.fixture(scope="module")
def study(tmp_path_factory, toy_card, toy_scenes):
    """Two baselines, a CroDiNo-KD and a fusion network, which has no network of a single sensor."""
    study = Study.__new__(Study)
    study.config = StudyConfig(study="toy", profile="smoke")
    study.fingerprint = "toy"
    study.folder = tmp_path_factory.mktemp("latents") / "toy"
    study.dataset = SimpleNamespace(card=toy_card, factors=lambda split: None)
    study.scenes = dict.fromkeys(toy_card.splits, toy_scenes)
    for method, sensors in ROWS:
        train = TrainConfig(epochs=1, batch_size=8)
        config = RunConfig(method=method, sensors=sensors, model=SMALL, train=train)
        fetch_run(config, study.folder / "runs", "toy", toy_card, study.scenes)
    return study


@pytest.fixture(scope="module")
def table(study):
    with joblib.parallel_config(backend="threading"):
        return Laboratory(study, budget=LITTLE).examine(find_models(study))


def test_baselines_are_paired_and_networks_without_single_sensors_left_out(study):
    assert [(subject.name, len(subject.runs)) for subject in find_models(study)] == [
        ("baseline seed 0", 2),
        ("crodino-kd seed 0", 1),
    ]


def test_rows_that_are_not_there_are_told_with_what_is(study):
    with pytest.raises(ValueError, match="Did you mean 'crodino-kd'"):
        find_models(study, ["crodino-k"])
    with pytest.raises(
        ValueError, match=r"no finished csk-net with a network of each of rgb and depth; it has baseline"
    ):
        find_models(study, ["csk-net"])
    assert find_models(study, seeds=[7]) == []


def test_of_several_versions_of_a_run_the_present_code_counts(study):
    run = find_models(study, ["crodino-kd"])[0].runs[0]
    newer = run.folder.with_name("0-00000000")
    shutil.copytree(run.folder, newer, ignore=shutil.ignore_patterns("latents"))
    (newer / "run.json").write_text(json.dumps(run.record | {"hash": "0" * 64}))
    try:
        found = find_models(study, ["crodino-kd"])[0].runs[0].folder
    finally:
        shutil.rmtree(newer)
    assert found == run.folder


def test_every_null_stands_beside_every_value(table):
    ours = table[table["model"] == "crodino-kd seed 0"]
    assert set(ours["question"]) >= {"cka", "retrieval", "class", "modality", "factors", "ablation", "split"}
    alone = ours[ours["where"].str.contains("/") & ours["value"].notna()]
    assert alone[["N1", "N2", "N3"]].notna().all().all()
    assert (ours.loc[ours["measure"].str.startswith("lost_mean"), "called"] == "").all()  # two nulls judge nobody
    assert alone["N4"].isna().all()  # shuffled pairs say nothing of a single block
    across = ours[(ours["question"] == "cka") & (ours["where"] == "shared")]
    assert across[list(NULLS)].notna().all().all()


def test_a_pair_of_baselines_is_its_own_second_null(table):
    ours = table[(table["model"] == "baseline seed 0") & table["value"].notna() & (table["question"] != "split")]
    np.testing.assert_allclose(ours["value"], ours["N2"])
    assert not ours["called"].isin(["above", "below"]).any()


def test_a_value_is_called_where_it_leaves_the_range_of_the_nulls(table):
    called = table[table["called"] != ""]
    above, below = called["value"] > called["high"], called["value"] < called["low"]
    three = called[["N1", "N2", "N3"]]
    assert (called["high"] >= three.max(axis=1)).all()
    assert (called["low"] <= three.min(axis=1)).all()
    assert (called[list(NULLS)].notna().sum(axis=1) >= 3).all()
    assert (called["called"] == np.select([above, below], ["above", "below"], "within")).all()


def test_what_was_asked_once_is_kept_with_the_run(study, table, monkeypatch):
    monkeypatch.setattr(module, "extract", lambda *args: pytest.fail("extracted again"))
    monkeypatch.setattr(answering, "ask", lambda *args: pytest.fail("asked again"))
    monkeypatch.setattr(answering, "ablate", lambda *args, **kw: pytest.fail("ablated again"))
    again = Laboratory(study, budget=LITTLE).examine(find_models(study))
    np.testing.assert_allclose(again["value"], table["value"])


def test_findings_are_tables_and_figures_and_tables_keep_the_models_that_were_examined_before(study, table):
    shown = save_findings(Laboratory(study, budget=LITTLE), find_models(study, ["crodino-kd"]))
    assert set(shown["model"]) == {"crodino-kd seed 0"}
    for name in ("latents_test", "latents_test_reading", "latents_test_diagnosis"):
        kept = pd.read_csv(study.folder / "tables" / f"{name}.csv")
        assert set(kept["model"]) == {"baseline seed 0", "crodino-kd seed 0"}
    for name in ("factor_matrix", "null_comparison"):
        assert (study.figures / f"{name}.png").stat().st_size > 10_000
    assert Laboratory(study, budget=AnalysisConfig(rows=61)).examined() == []


def test_of_several_seeds_the_factor_matrix_has_the_mean_and_frames_what_every_seed_says(table):
    ours = table[table["row"] == "crodino-kd"]
    other = ours.assign(model="crodino-kd seed 1", seed=1)
    brightness = (other["measure"] == "seen_rgb_brightness") & (other["where"] == "rgb/shared")
    cells = [part.loc[brightness.to_numpy(), "value"] for part in (ours, other)]
    other.loc[brightness, "value"], other.loc[brightness, "called"] = 0.9, "above"
    ours = ours.assign(called=ours["called"].where(~brightness.to_numpy(), "within"))
    groups, called = factor_groups(pd.concat([ours, other]))
    assert next(iter(groups)) == "crodino-kd"
    mean = (cells[0].item() + 0.9) / 2
    assert groups["crodino-kd"].loc["seen_rgb_brightness", "rgb/shared"] == pytest.approx(mean)
    assert not called["crodino-kd"].loc["seen_rgb_brightness", "rgb/shared"]


def test_the_factor_matrix_has_a_column_per_block_and_the_nulls_beside(table):
    groups, called = factor_groups(table)
    assert list(groups) == ["baseline", "crodino-kd", "N1 untrained", "N2 baselines", "N3 dealt anew"]
    assert all(
        list(group.columns) == [f"{s}/{h}" for s in SENSORS for h in ("shared", "private")] for group in groups.values()
    )
    assert "seen_rgb_brightness" in groups["crodino-kd"].index
    assert set(called) == {"baseline", "crodino-kd"}


def test_the_explorer_shows_every_model_and_an_untrained_one(study, toy_scenes):
    laboratory = Laboratory(study, budget=LITTLE)
    models = find_models(study, ["crodino-kd"])
    _, _, _, _, points, clouds, captions, predictions = collect(laboratory, models, seeds=[0], n=80)
    names = [models[0].name, f"{models[0].name}, untrained"]
    assert set(clouds) == set(captions) == set(product(names, ("shared", "private"), ("UMAP", "PCA")))
    assert all(cloud.shape == (len(points), 2) for cloud in clouds.values())
    assert predictions["crodino-kd seed 0", "rgb"].shape == toy_scenes.labels.shape
    assert {model for model, _ in predictions} == {names[0]}


def test_pictures_are_fitted_once_and_kept_with_the_run(study, monkeypatch):
    laboratory, subject = Laboratory(study, budget=LITTLE), find_models(study, ["crodino-kd"])[0]
    models = {"ours": (subject, True), "before": (subject, False)}
    first = drawing.pictures(laboratory, models, seeds=[0], n=80)
    monkeypatch.setattr(drawing, "fit_manifolds", lambda *args, **kw: pytest.fail("fitted again"))
    again = drawing.pictures(laboratory, {"same": models["ours"]}, seeds=[0], n=80)
    ours = first.points[first.points["model"] == "ours"]
    assert list(dict.fromkeys(first.points["model"])) == ["ours", "before"]
    np.testing.assert_array_equal(again.points[["x", "y"]], ours[["x", "y"]])
    assert set(again.points["model"]) == {"same"}
    monkeypatch.undo()
    monkeypatch.setattr(drawing, "fit_manifolds", lambda *args, **kw: pytest.fail("asked for other seeds"))
    with pytest.raises(pytest.fail.Exception, match="asked for other seeds"):
        drawing.pictures(laboratory, models, seeds=[1], n=80)


def test_runs_that_saw_other_scenes_are_left_out_and_said_so(study, monkeypatch, capsys):
    monkeypatch.setattr(study, "fingerprint", "another")
    assert find_models(study) == []
    assert "4 finished runs saw other scenes than Toy has here; they are left out" in capsys.readouterr().out


def test_the_caption_says_what_was_looked_at(study, table):
    told = Laboratory(study, budget=LITTLE).caption(table)
    assert "split test, 16 scenes: 16 images, " in told
    assert "halves replaced in 6 scenes; 3 shuffles, 1 steps of perceptrons; seeds 0." in told
