"""The analysis of a tiny study: which models it finds, what it compares, what it keeps."""

import shutil
from itertools import product
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis import AnalysisConfig, gain_correlations, umap_embedding
from crodino_lib.analysis import latent_analysis as module
from crodino_lib.analysis.latent_analysis import LatentAnalysis
from crodino_lib.analysis.null_models import NULL_MODELS, factor_table
from crodino_lib.analysis.suite import METRICS
from crodino_lib.analysis.trained_models import find_models
from crodino_lib.config import ModelConfig, RunConfig, StudyConfig, TrainConfig
from crodino_lib.explorer import collect
from crodino_lib.figures.latents import save_latent_figures
from crodino_lib.study.runs import fetch_run
from crodino_lib.study.study import Study

SENSORS = ("rgb", "depth")
SMALL = ModelConfig(encoder="mobilenetv3_small_050", weights="none", block_channels=16, decoder_channels=16)
LITTLE = AnalysisConfig(rows=60, shuffles=3, scenes=6, points=80, fits=1)
RUNS = (("baseline", ("rgb",)), ("baseline", ("depth",)), ("crodino-kd", SENSORS), ("early", SENSORS))
OURS = "crodino-kd seed 0"


@pytest.fixture(scope="module")
def study(tmp_path_factory, toy_card, toy_scenes):
    """Two baselines, a CroDiNo-KD and a fusion network, which has no network of a single sensor."""
    study = Study.__new__(Study)
    study.config = StudyConfig.parse({"study": "toy", "profile": "smoke"})
    study.fingerprint = "toy"
    study.folder = tmp_path_factory.mktemp("latents") / "toy"
    study.dataset = SimpleNamespace(card=toy_card, factors=lambda split: None)
    study.scenes = dict.fromkeys(toy_card.splits, toy_scenes)
    for method, sensors in RUNS:
        train = TrainConfig(epochs=1, batch_size=8)
        config = RunConfig(method=method, sensors=sensors, model=SMALL, train=train)
        fetch_run(config, study.folder / "runs", "toy", toy_card, study.scenes)
    return study


@pytest.fixture(scope="module")
def table(study):
    with joblib.parallel_config(backend="threading"):
        return LatentAnalysis(study, config=LITTLE).compare(find_models(study))


def test_baselines_are_paired_and_networks_of_both_sensors_left_out(study):
    models = [(model.name, model.method, len(model.runs)) for model in find_models(study)]
    assert models == [("baseline seed 0", "baseline", 2), (OURS, "crodino-kd", 1)]
    assert [model.name for model in find_models(study, ["crodino-kd", "baseline"])] == [OURS, "baseline seed 0"]


def test_methods_that_are_not_there_are_named_with_those_that_are(study):
    with pytest.raises(ValueError, match="Did you mean 'crodino-kd'"):
        find_models(study, ["crodino-k"])
    with pytest.raises(
        ValueError, match=r"no finished csk-net with a network of each of rgb and depth; it has baseline"
    ):
        find_models(study, ["csk-net"])
    assert find_models(study, seeds=[7]) == []


def test_runs_on_other_scenes_are_left_out_with_a_message(study, monkeypatch, capsys):
    monkeypatch.setattr(study, "fingerprint", "another")
    assert find_models(study) == []
    assert "4 finished runs are left out: their scenes are not those that Toy has here" in capsys.readouterr().out


def test_training_recorded_the_frames_of_the_film(study):
    model = find_models(study, ["crodino-kd"])[0]
    assert sorted(file.name for file in (model.runs[0].folder / "frames").iterdir()) == [
        "epoch-0000.npz",
        "epoch-0001.npz",
    ]


def test_every_null_model_stands_beside_every_value(table):
    ours = table[table["model"] == OURS]
    assert set(ours["metric"]) == {*METRICS, "ablation", "split"}
    block = ours[(ours["sensor"] != "") & (ours["half"] != "") & (ours["metric"] != "ablation") & ours["value"].notna()]
    assert block[list(NULL_MODELS)[:3]].notna().all(axis=None)
    assert block["shuffled_pairs"].isna().all()  # they change nothing within a single block
    assert (ours.loc[ours["measure"] == "lost_mean", "flag"] == "").all()  # two null models are too few
    assert ours.loc[ours["measure"] == "cka", list(NULL_MODELS)].notna().all(axis=None)


def test_a_pair_of_baselines_is_its_own_null_model(table):
    ours = table[(table["model"] == "baseline seed 0") & table["value"].notna()]
    np.testing.assert_allclose(ours["value"], ours["independent_baselines"])
    assert not ours["flag"].isin(["above", "below"]).any()


def test_results_are_computed_once_and_kept_with_the_run(study, table, monkeypatch):
    for name in ("extract", "run_suite", "run_paired", "ablation_table"):
        monkeypatch.setattr(module, name, lambda *args, _name=name: pytest.fail(f"{_name} again"))
    again = LatentAnalysis(study, config=LITTLE).compare(find_models(study))
    np.testing.assert_allclose(again["value"], table["value"])


def test_tables_and_figures_are_saved_and_tables_keep_the_models_that_were_compared_before(study, table, monkeypatch):
    saved = []
    monkeypatch.setattr("crodino_lib.figures.latents.save", lambda figure, folder, stem, data: saved.append(stem))
    shown = save_latent_figures(LatentAnalysis(study, config=LITTLE), find_models(study, ["crodino-kd"]))
    assert set(shown["model"]) == {OURS}
    for name in ("latents_test", "latents_test_summary", "latents_test_diagnosis"):
        kept = pd.read_csv(study.folder / "tables" / f"{name}.csv")
        assert set(kept["model"]) == {"baseline seed 0", OURS}
    assert saved == ["factor_matrix", "null_comparison"]
    assert LatentAnalysis(study, config=AnalysisConfig(rows=61)).compared() == []


def test_the_factor_table_has_every_block_and_the_null_models(table):
    cells = factor_table(table)
    assert cells["group"].unique().tolist() == ["baseline", "crodino-kd", *list(NULL_MODELS)[:3]]
    ours = cells[cells["group"] == "crodino-kd"]
    assert {"class", "modality", "seen_rgb_brightness", "seen_depth_holes"} <= set(ours["target"])
    assert (ours.groupby("target").size() == 4).all()


@pytest.fixture
def no_umap(monkeypatch):
    """An embedding that compiles nothing: the distances to the first two points."""
    monkeypatch.setattr("crodino_lib.analysis.umap_embedding.umap_2d", lambda distances, *_: (distances[:, :2], ""))


@pytest.mark.usefixtures("no_umap")
def test_embeddings_are_fitted_once_and_kept_with_the_run(study, monkeypatch):
    analysis, model = LatentAnalysis(study, config=LITTLE), find_models(study, ["crodino-kd"])[0]
    models = {"ours": (model, True), "before": (model, False)}
    first = analysis.embeddings(models)
    monkeypatch.setattr(module, "fit_embeddings", lambda *args, **kw: pytest.fail("fitted again"))
    again = analysis.embeddings({"same": models["ours"]})
    assert list(dict.fromkeys(first.points["model"])) == ["ours", "before"]
    ours = first.points[first.points["model"] == "ours"]
    np.testing.assert_array_equal(again.points[["x", "y"]], ours[["x", "y"]])
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        LatentAnalysis(study, config=LITTLE.model_copy(update={"fits": 2})).embeddings(models)


def test_the_film_of_a_training_is_fitted_once_on_the_recorded_split(study, monkeypatch):
    model = find_models(study, ["crodino-kd"])[0]
    frames = model.runs[0].folder / "frames"
    analysis = LatentAnalysis(study, split="val", config=LITTLE)
    for epoch, trained in ((0, False), (1, True)):
        analysis.latents(model, trained)["region"].save(frames / f"epoch-{epoch:04}.npz")
    monkeypatch.setattr(umap_embedding, "align", lambda distances, seed: [each[:, :2] for each in distances])
    first = analysis.film(model)
    assert set(first.points.groupby(["half", "epoch"]).groups) == set(product(("shared", "private"), (0, 1)))
    monkeypatch.setattr(umap_embedding, "align", lambda *_: pytest.fail("fitted again"))
    pd.testing.assert_frame_equal(analysis.film(model).points, first.points)
    with pytest.raises(ValueError, match="training records scenes of val, not of test: analyse the split val"):
        LatentAnalysis(study, split="test", config=LITTLE).film(model)
    with monkeypatch.context() as patch:
        patch.setattr(umap_embedding, "umap_2d", lambda distances, *_: (distances[:, :2], ""))
        contents = collect(analysis, find_models(study))  # the baselines come first, and have recorded nothing
    assert contents.filmed == OURS
    assert contents.embeddings == ["UMAP", "PCA", "epoch 0", "epoch 1"]
    shown = contents.clouds[OURS, "shared", "epoch 1"]
    assert shown.shape == (len(contents.points), 2)
    assert np.isfinite(shown).any()
    shutil.rmtree(frames)


@pytest.mark.usefixtures("no_umap")
def test_the_explorer_shows_every_model_and_an_untrained_one(study, toy_scenes):
    models = find_models(study, ["crodino-kd"])
    analysis = LatentAnalysis(study, config=LITTLE)
    contents = collect(analysis, models)
    points, clouds, predictions = contents.points, contents.clouds, contents.predictions
    names = [OURS, f"{OURS}, untrained"]
    assert set(clouds) == set(contents.captions) == set(product(names, ("shared", "private"), ("UMAP", "PCA")))
    assert all(cloud.shape == (len(points), 2) for cloud in clouds.values())
    assert predictions[OURS, "rgb"].shape == toy_scenes.labels.shape
    assert {model for model, _ in predictions} == {OURS}


def test_a_damaged_file_of_results_is_named(tmp_path):
    file = tmp_path / "value.csv"
    file.write_text(",".join(module.COLUMNS) + "\n" + ",".join(["x"] * len(module.COLUMNS)) + "\n")
    with pytest.raises(ValueError, match=r"value\.csv is damaged: some of its values are not numbers"):
        module.read_results(file)


def test_the_caption_names_what_was_used(study, table):
    caption = LatentAnalysis(study, config=LITTLE).caption(table)
    assert "split test, 16 scenes: 16 images, " in caption
    assert "halves replaced in 6 scenes; 3 shuffles; seeds 0." in caption


def test_scores_and_gains_of_a_study_are_those_of_its_comparison_and_records(study, table, monkeypatch):
    monkeypatch.setattr(Study, "finished", lambda self: ([run for m in find_models(self) for run in m.runs], []))
    with joblib.parallel_config(backend="threading"):
        found = gain_correlations.scores_of_studies([study], LITTLE)
    assert list(found.columns) == gain_correlations.COLUMNS
    assert set(found.model) == {OURS}  # the baselines have no gain over themselves
    row = found.set_index("null").loc["value"]
    own = table[(table.model == OURS) & (table.unit == "region")].set_index(["measure", "half"]).value
    assert row["mixing"] == pytest.approx(own["cross_within_class", "shared"], nan_ok=True)
    assert row["class"] == pytest.approx(own["class", "shared"].mean())
    mious = {
        (run.name, m["sensors"]): m["miou"]
        for x in find_models(study)
        for run in x.runs
        for m in run.record["metrics"]
        if m["split"] == "test"
    }
    gains = [100 * (mious["crodino-kd", one] - mious["baseline", one]) for one in SENSORS]
    assert row["gain"] == pytest.approx(np.mean(gains))
    assert np.isnan(row["cross-modal gain"])  # no self-training
    assert found.set_index("null").loc["untrained", ["swap", "mean"]].isna().all()
