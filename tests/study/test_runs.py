"""Runs and studies on a tiny folder dataset: trained once, found again, refused when they do not fit."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from crodino_lib.config import TRAINING_VERSION, DataConfig, ModelConfig, RunConfig, StudyConfig, TrainConfig
from crodino_lib.study import runs as runs_module
from crodino_lib.study.dials import BASE
from crodino_lib.study.formats import in_formats, to_markdown
from crodino_lib.study.runs import CONVENTION, RECORDED, fetch_run, finished_run, run_hash
from crodino_lib.study.study import Study
from crodino_lib.study.tables import (
    as_text,
    caption,
    class_table,
    comparison_table,
    cost_table,
    run_table,
    save_tables,
)

SMALL = ModelConfig(encoder="mobilenetv3_small_050", weights="none", block_channels=16, decoder_channels=16)


def config_of(method, sensors, seed=0):
    train = TrainConfig(epochs=1, batch_size=8)
    return RunConfig(method=method, sensors=sensors, seed=seed, model=SMALL, train=train)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory, toy_card, toy_scenes):
    """Every row of a two-seed study of the toy scenes."""
    folder = tmp_path_factory.mktemp("runs")
    scenes = dict.fromkeys(("train", "val", "test"), toy_scenes)
    configs = [
        config_of(method, sensors, seed)
        for seed in (0, 1)
        for method, sensors in (("baseline", ("rgb",)), ("baseline", ("depth",)), ("crodino-kd", ("rgb", "depth")))
    ]
    return [fetch_run(c, folder, "toy", toy_card, scenes) for c in configs]


@pytest.fixture(scope="module")
def taught(tmp_path_factory, toy_card, toy_scenes):
    """A baseline, an early-fusion teacher, and the student it taught."""
    runs, scenes = tmp_path_factory.mktemp("taught"), dict.fromkeys(("train", "val", "test"), toy_scenes)
    student = config_of("kd", ("rgb",)).model_copy(update={"teacher": "early", "teacher_sensors": ("rgb", "depth")})
    configs = [config_of("baseline", ("rgb",)), student.parent, student]
    return [fetch_run(config, runs, "toy", toy_card, scenes) for config in configs]


@pytest.fixture(scope="module")
def partly_labelled(tmp_path_factory, toy_card, toy_scenes):
    """Runs of eight labelled scenes of sixteen: two that need labels, one twice as long, and one that does not."""
    folder, scenes = tmp_path_factory.mktemp("labelled"), dict.fromkeys(("train", "val", "test"), toy_scenes)
    cases = [("baseline", ("rgb",), {}), ("baseline", ("depth",), {}), ("baseline", ("rgb",), {"budget": 2.0})]
    cases += [("crodino-kd", ("rgb", "depth"), {})]
    given = {"data": DataConfig(labelled=8), "train": TrainConfig(epochs=2, steps=3, batch_size=8, frames=0)}
    configs = [config_of(method, sensors).model_copy(update={**given, "settings": s}) for method, sensors, s in cases]
    return [fetch_run(config, folder, "toy", toy_card, scenes) for config in configs]


def study_config(**settings):
    return StudyConfig.parse(settings)


def _stop():
    raise StopIteration


def test_a_finished_run_holds_everything_the_design_asks_for(fetched):
    run = fetched[2]
    names = {file.name for file in run.folder.iterdir()}
    students = {"student-rgb.safetensors", "student-depth.safetensors"}
    assert names == {"run.json", "history.csv", "confusion.npz", ".lock", "frames"} | students
    record = json.loads((run.folder / "run.json").read_text())
    assert record["training_version"] == TRAINING_VERSION
    assert record["convention"] == CONVENTION
    assert record["metrics"][0]["images"] == 16
    assert record["environment"]["torch"] == torch.__version__
    assert set(record["cost"]["students"]) == {"rgb", "depth"}


def test_a_record_counts_labelled_and_unlabelled_scenes_and_names_the_terms_that_learn_of_the_latter(
    fetched, partly_labelled
):
    def told(run):
        record = json.loads((run.folder / "run.json").read_text())
        return [record[name] for name in ("training_images", "unlabelled_images", "label_free_terms")]

    assert told(fetched[2]) == [16, 0, []]
    assert told(partly_labelled[0]) == [8, 0, []]
    assert told(partly_labelled[3]) == [8, 8, ["overlap"]]


def test_the_hash_covers_labelled_scenes_and_steps():
    config, other = config_of("baseline", ("rgb",)), {"data": DataConfig(labelled=8)}
    assert run_hash(config.model_copy(update=other), "a") != run_hash(config, "a")
    longer = {"train": config.train.model_copy(update={"steps": 7})}
    assert run_hash(config.model_copy(update=longer), "a") != run_hash(config, "a")


def test_a_finished_run_is_never_trained_again(fetched, toy_card, toy_scenes, monkeypatch):
    monkeypatch.setattr(runs_module, "train", lambda *args, **kw: pytest.fail("trained again"))
    again = fetch_run(fetched[0].config, fetched[0].folder.parents[2], "toy", toy_card, {})
    assert again.record == fetched[0].record


def test_the_recorded_metrics_are_those_of_the_saved_students(fetched, toy_card, toy_scenes):
    from crodino_lib.evaluate import evaluate, scores

    run = fetched[2]
    method = run.method(toy_card)
    for sensor in ("rgb", "depth"):
        matrix = evaluate(method.predict, toy_scenes, toy_card, (sensor,), 8, torch.device("cpu"))
        recorded = run.miou(sensor)
        assert scores(matrix)["miou"] == pytest.approx(recorded, abs=0.02)  # trained in bf16, read in float32
        assert scores(run.confusion()["test", sensor])["miou"] == pytest.approx(recorded, abs=1e-9)


def test_the_hash_covers_settings_data_and_version_but_not_where_the_data_lies(monkeypatch):
    config = config_of("baseline", ("rgb",))
    moved = config.model_copy(update={"data": config.data.model_copy(update={"root": "elsewhere"})})
    assert run_hash(config, "a") == run_hash(moved, "a")
    assert run_hash(config, "a") != run_hash(config, "b")
    assert run_hash(config, "a") != run_hash(config.model_copy(update={"seed": 1}), "a")
    before = run_hash(config, "a")
    monkeypatch.setattr(runs_module, "TRAINING_VERSION", TRAINING_VERSION + 1)
    assert run_hash(config, "a") != before


@pytest.mark.parametrize("version", [None, 1])
def test_a_run_of_another_version_of_the_training_is_refused(version, fetched, tmp_path):
    shutil.copytree(fetched[0].folder, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["training_version"] = version
    (tmp_path / "run" / "run.json").write_text(json.dumps({k: v for k, v in record.items() if v is not None}))
    with pytest.raises(ValueError, match=r"was trained by version .* of the training.*do not compare"):
        finished_run(tmp_path / "run")


def test_tables_need_the_record_of_a_run_but_not_its_weights(fetched, tmp_path):
    shutil.copytree(fetched[0].folder, tmp_path / "run")
    (tmp_path / "run" / "student-rgb.safetensors").unlink()
    assert run_table([finished_run(tmp_path / "run", students=False)]).iloc[0]["method"] == "baseline"
    with pytest.raises(FileNotFoundError, match=r"has lost student-rgb\.safetensors"):
        finished_run(tmp_path / "run")


def test_a_finished_run_that_lost_a_file_says_which(fetched, tmp_path):
    shutil.copytree(fetched[0].folder, tmp_path / "run")
    (tmp_path / "run" / "confusion.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"has lost confusion\.npz"):
        finished_run(tmp_path / "run")


def test_every_split_is_read_before_the_first_step(tmp_path, toy_card, toy_scenes, monkeypatch):
    class Damaged(dict):
        def __missing__(self, split):
            raise ValueError(f"a picture of {split} is damaged")

    monkeypatch.setattr(runs_module, "train", lambda *args, **kw: pytest.fail("trained before the test split was read"))
    scenes = Damaged(train=toy_scenes, val=toy_scenes)
    with pytest.raises(ValueError, match="a picture of test is damaged"):
        fetch_run(config_of("baseline", ("rgb",)), tmp_path, "toy", toy_card, scenes)


def test_an_unfinished_folder_is_not_a_run(tmp_path):
    (tmp_path / "resume.pt").write_bytes(b"half")
    assert finished_run(tmp_path) is None


class TestTables:
    def test_every_number_says_how_many_seeds_and_images_stand_behind_it(self, fetched):
        table = comparison_table(fetched)
        assert set(table["seeds"]) == {2}
        assert set(table["test images"]) == {16}
        assert set(table["training images"]) == {16}
        text = as_text(table)
        assert (text["seeds"] == 2).all()
        assert text["mIoU"].str.contains(r"\[").all()

    def test_scenes_and_steps_stand_in_every_row(self, partly_labelled):
        table = comparison_table(partly_labelled).set_index(["method", "sensors at test"])
        columns = ["training images", "unlabelled images", "steps"]
        assert table.loc[("baseline", "rgb"), columns].tolist() == [8, 0, 3]
        assert table.loc[("baseline:x2", "rgb"), columns].tolist() == [8, 0, 6]
        assert table.loc[("crodino-kd", "depth"), columns].tolist() == [8, 8, 3]

    def test_a_longer_baseline_is_a_row_like_any_other_and_no_reference(self, partly_labelled):
        baseline, _, longer, _ = partly_labelled
        table = comparison_table(partly_labelled).set_index(["method", "sensors at test"])
        reference = 100 * baseline.miou("rgb")
        for method in ("baseline:x2", "crodino-kd"):
            row = table.loc[method, "rgb"]
            assert row.gain == pytest.approx(row["mIoU"] - reference)
        assert np.isnan(table.loc[("baseline", "rgb"), "gain"])
        assert comparison_table([longer])["gain"].isna().all()

    def test_runs_of_other_counts_of_labelled_scenes_never_share_a_row(self, partly_labelled, fetched):
        methods = run_table([partly_labelled[0], fetched[0]])["method"]
        assert methods.nunique() == 2
        assert methods.str.contains("labelled 8").sum() == 1

    def test_one_seed_shows_the_interval_of_its_images_and_no_spread(self, fetched):
        table = comparison_table(fetched[:3])
        assert table["sd over seeds"].isna().all()
        assert as_text(table)["mIoU"].str.contains(r"\[").all()
        assert "not over other seeds" in caption(table, "")

    def test_the_gain_of_one_seed_has_the_interval_of_its_images(self, fetched):
        row = comparison_table(fetched[:3]).query("method == 'crodino-kd'").iloc[0]
        assert row["gain low"] <= row["gain"] <= row["gain high"]
        assert row["verdict"] == "-"

    def test_a_gain_is_the_mean_difference_to_the_baseline_of_the_same_seed(self, fetched):
        row = comparison_table(fetched).query("method == 'crodino-kd' and `sensors at test` == 'rgb'").iloc[0]
        mious = {(run.name, run.config.seed): 100 * run.miou("rgb") for run in fetched if "rgb" in run.config.sensors}
        differences = [mious["crodino-kd", seed] - mious["baseline", seed] for seed in (0, 1)]
        assert row["gain"] == pytest.approx(np.mean(differences))
        assert row["mIoU"] == pytest.approx(np.mean([mious["crodino-kd", seed] for seed in (0, 1)]))

    def test_the_students_cost_what_the_baseline_costs(self, fetched):
        assert set(comparison_table(fetched)["cost of inference"]) == {1.0}

    def test_a_row_names_its_teacher_with_its_score_and_the_teacher_s_cost_stands_apart(self, taught):
        table = comparison_table(taught).set_index("method")
        assert table.loc["kd", "teacher"] == "early rgb+depth"
        teacher = next(run for run in taught if run.config.method == "early")
        assert table.loc["kd", "teacher mIoU"] == pytest.approx(100 * teacher.miou("rgb+depth"))
        assert f"({table.loc['kd', 'teacher mIoU']:.1f})" in as_text(table.reset_index()).loc[2, "teacher (its mIoU)"]
        costs = cost_table(run_table(taught)).set_index("method")
        assert costs.loc["kd", "teacher's training TFLOPs"] == pytest.approx(costs.loc["early", "training TFLOPs"])
        assert 0 < costs.loc["kd", "of which teacher"] < costs.loc["kd", "training TFLOPs"]
        assert costs.loc["baseline", "of which teacher"] == costs.loc["baseline", "teacher's training TFLOPs"] == 0

    def test_a_teacher_is_trained_once_for_all_its_rows(self, taught, toy_card, toy_scenes, monkeypatch):
        asked = []
        monkeypatch.setattr(
            runs_module, "train", lambda method, *args, **kw: asked.append(method.config.method) or _stop()
        )
        config = taught[-1].config.model_copy(update={"method": "cwd-logits"})
        with pytest.raises(StopIteration):
            fetch_run(config, taught[0].folder.parents[2], "toy", toy_card, dict.fromkeys(toy_card.splits, toy_scenes))
        assert asked == ["cwd-logits"]

    def test_sensors_together_gain_over_the_better_baseline(self, taught, fetched):
        row = comparison_table([*fetched[:2], taught[1]]).iloc[-1]
        better = max(100 * run.miou(run.config.sensors[0]) for run in fetched[:2])
        assert row["gain"] == pytest.approx(row["mIoU"] - better)

    def test_runs_of_one_seed_with_other_settings_never_share_a_row_or_count_as_two_seeds(
        self, fetched, tmp_path, toy_card, toy_scenes
    ):
        scenes = dict.fromkeys(("train", "val", "test"), toy_scenes)
        base = config_of("crodino-kd", ("rgb", "depth"))
        other = base.model_copy(update={"settings": {"contrast_weight": 0.5}})
        longer = base.model_copy(update={"train": base.train.model_copy(update={"learning_rate": 1e-4})})
        runs = [fetched[2], *(fetch_run(c, tmp_path, "toy", toy_card, scenes) for c in (other, longer))]
        table = comparison_table(runs)
        assert len(table) == 2 * 3
        assert set(table["seeds"]) == {1}
        assert table["method"].str.contains("contrast_weight=0.5", regex=False).sum() == 2
        assert table["method"].str.contains("learning_rate 0.0001").sum() == 2

    def test_the_same_run_twice_is_refused(self, fetched):
        with pytest.raises(ValueError, match="have the same seed"):
            comparison_table([fetched[0], fetched[0]])

    def test_missing_runs_are_listed_below_the_comparison(self, fetched, tmp_path):
        save_tables(fetched, tmp_path, "a caption", ["cirkd on rgb, seed 0"])
        assert "Not run: cirkd on rgb, seed 0." in (tmp_path / "comparison.md").read_text()
        save_tables(fetched, tmp_path, "a caption")
        assert "Not run" not in (tmp_path / "comparison.md").read_text()

    def test_saved_tables_read_back(self, fetched, tmp_path, toy_card):
        table = save_tables(fetched, tmp_path, "a caption")
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "comparison.csv"), table, atol=1e-3, check_dtype=False)
        assert (tmp_path / "comparison.md").read_text().startswith(to_markdown(as_text(table)))
        assert len(pd.read_csv(tmp_path / "classes.csv")) == len(class_table(fetched))

    def test_tables_of_the_same_runs_are_equal_files(self, fetched, tmp_path):
        for place in ("first", "second"):
            save_tables(fetched, tmp_path / place, "a caption")
        files = sorted(file.name for file in (tmp_path / "first").iterdir())
        assert {name.partition(".")[2] for name in files} == {"csv", "md", "html", "tex"}
        for name in files:
            assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()

    def test_best_is_bold_second_italic_and_text_is_escaped(self):
        text = pd.DataFrame({"method": ["a_b", "<c>"], "mIoU": ["50 %", "40"]})
        files = in_formats("some", text, "100 % & more {a}", pd.Series([1, 2]))
        assert r"a\_b & \bfseries 50 \%" in files["some.tex"]
        assert r"\itshape 40" in files["some.tex"]
        assert r"100 \% \& more \{a\}" in files["some.tex"]
        assert r"\toprule" in files["some.tex"]
        assert files["some.tex"].count("{") == files["some.tex"].count("}")
        assert "&lt;c&gt;" in files["some.html"]
        assert "font-style: italic" in files["some.html"]
        assert files["some.md"].startswith(to_markdown(text))

    def test_a_head_much_longer_than_its_cells_stands_on_its_side_and_the_table_fits_the_page(self):
        text = pd.DataFrame({"method": ["crodino-kd"], "sensors_at_test": ["rgb"], "seeds": [3], "mIoU": ["50"]})
        tex = in_formats("some", text, "A caption")["some.tex"]
        assert r"method & \rotatebox{90}{sensors\_at\_test} & seeds & mIoU \\" in tex
        start, end = tex.index(r"\resizebox{\ifdim\width>\linewidth"), tex.index(r"\end{tabular}}")
        assert start < tex.index(r"\begin{tabular}") < end


class TestStudy:
    def test_a_results_folder_of_another_study_is_refused_with_what_differs(self, tmp_path):
        (Study(study_config(study="mine", profile="quick"), results=tmp_path).folder / "runs").mkdir()
        with pytest.raises(ValueError, match=r"belongs to another study: .*epochs was 4, now 9"):
            Study(study_config(study="mine", profile="quick", epochs=9), results=tmp_path)

    def test_a_study_that_failed_before_its_first_run_leaves_its_name_free(self, tmp_path):
        Study(study_config(study="mine", encoder="resnt18"), results=tmp_path)
        Study(study_config(study="mine", encoder="resnet18"), results=tmp_path)
        assert json.loads((tmp_path / "mine" / "study.json").read_text())["encoder"] == "resnet18"

    def test_a_damaged_file_of_ours_is_named(self, tmp_path):
        (Study(study_config(study="mine"), results=tmp_path).folder / "study.json").write_text("{")
        with pytest.raises(ValueError, match=r"study\.json is damaged"):
            Study(study_config(study="mine"), results=tmp_path)

    def test_a_changed_profile_promises_nothing(self, tmp_path):
        says = Study(study_config(study="mine", profile="cpu", epochs=1, seeds=8), results=tmp_path).caveat()
        assert says == "Profile cpu, changed: epochs 1."

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.tex").touch()
        with pytest.raises(ValueError, match=r"is not empty and holds no study\.json"):
            Study(study_config(study="mine"), results=tmp_path)

    def test_half_a_file_of_a_killed_or_concurrent_start_does_not_block_a_study(self, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / ".study-x1y2.json").touch()
        assert (Study(study_config(study="mine"), results=tmp_path).folder / "study.json").exists()

    def test_a_study_may_gain_rows_and_seeds(self, tmp_path):
        Study(study_config(study="mine", seeds=1, methods=("baseline",)), results=tmp_path)
        study = Study(study_config(study="mine", seeds=3), results=tmp_path)
        assert study.folder == tmp_path / "mine"

    def test_a_dataset_on_disk_needs_its_root(self, tmp_path):
        study = Study(study_config(study="mine", dataset="nyu13"), results=tmp_path)
        with pytest.raises(ValueError, match="dataset 'nyu13' needs root"):
            _ = study.dataset

    @pytest.mark.parametrize(
        ("method", "student", "teacher", "expected"),
        [
            ("kd", ("depth",), "late", ("late", ("rgb", "depth"))),
            ("kd", ("depth",), "baseline", ("baseline", ("rgb",))),
            ("csk-net", ("rgb", "depth"), "late", ("baseline", ("rgb",))),
            ("crodino-kd", ("rgb", "depth"), "late", ("", ())),
        ],
    )
    def test_a_teacher_sees_both_sensors_or_the_one_its_student_does_not(
        self, method, student, teacher, expected, tmp_path, toy_card
    ):
        study = Study(study_config(study="mine", teacher=teacher), results=tmp_path)
        study.__dict__["dataset"] = type("Toy", (), {"card": toy_card})()
        run = study.run_config(method, student, seed=3)
        assert (run.teacher, run.teacher_sensors) == expected
        if run.parent:
            assert (run.parent.method, run.parent.sensors, run.parent.seed) == (*expected, 3)

    def test_finished_and_missing_runs_make_up_the_grid(self, tmp_path, toy_card):
        study = Study(study_config(study="mine", methods=("baseline", "crodino-kd")), results=tmp_path)
        study.__dict__ |= {"dataset": type("Toy", (), {"card": toy_card})(), "fingerprint": "toy"}
        runs, missing = study.finished()
        assert runs == []
        assert missing == study.grid()

    def test_the_grid_has_one_baseline_per_sensor_and_one_run_per_joint_method(self, tmp_path, toy_card):
        methods = ("baseline", "kd-v2", "crodino-kd")
        study = Study(study_config(study="mine", seeds=2, methods=methods), results=tmp_path)
        study.__dict__["dataset"] = type("Toy", (), {"card": toy_card})()
        grid = [(c.method, c.sensors, c.seed) for c in study.grid()]
        assert len(grid) == len(set(grid)) == 2 * 5
        assert ("baseline", ("depth",), 1) in grid


def test_a_tour_shows_networks_that_learned_more_where_they_are_there(tmp_path):
    """Neither a study without their weights nor one of another size is taken; records decide, nothing is rendered."""
    tour = Study(StudyConfig.parse({"profile": "quick"}), tmp_path)
    assert tour.teaching() is tour
    base = Study(StudyConfig.parse({**BASE, "study": "rooms-dials"}), tmp_path)
    assert tour.teaching() is tour
    for number, config in enumerate(config for config in base.grid() if config.method in ("baseline", "crodino-kd")):
        folder = tmp_path / "rooms-dials" / "runs" / "rooms" / config.method / f"{config.seed}-{number:08x}"
        folder.mkdir(parents=True)
        record = dict.fromkeys(RECORDED, 0) | {"training_version": TRAINING_VERSION}
        (folder / "run.json").write_text(json.dumps(record | {"config": config.model_dump(mode="json")}))
        for name in ("confusion.npz", "history.csv"):
            (folder / name).touch()
    assert tour.teaching() is tour  # records alone have nothing to show
    for folder in tmp_path.glob("rooms-dials/runs/rooms/*/0-*"):
        (folder / "student-rgb.safetensors").touch()
    assert tour.teaching().config.name == "rooms-dials"
    for other in ({"profile": "smoke"}, {"profile": "quick", "sensors": ["rgb", "thermal"]}):
        study = Study(StudyConfig.parse({**other, "study": "other"}), tmp_path)
        assert study.teaching() is study
        (tmp_path / "other" / "study.json").unlink()
