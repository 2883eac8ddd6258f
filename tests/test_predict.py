"""Segment a picture of one's own: the same classes as the study's own evaluation, at the picture's size."""

import numpy as np
import pytest
from PIL import Image

from crodino_lib.cli import main
from crodino_lib.config import StudyConfig, home
from crodino_lib.predict import find_run, predict
from crodino_lib.study.study import Study


@pytest.fixture(scope="module")
def study():
    return Study(StudyConfig.parse({"profile": "smoke", "study": "predicted"}))


@pytest.fixture(scope="module")
def run(study):
    return study.run("crodino-kd")


def test_a_scene_of_the_study_gets_the_classes_that_its_evaluation_counts(study, run, tmp_path):
    scenes = study.scenes["test"]
    Image.fromarray(scenes.images["rgb"][1].transpose(1, 2, 0)).save(tmp_path / "scene.png")
    depth = np.where(scenes.valid["depth"][1, 0], scenes.images["depth"][1, 0], np.nan)
    np.save(tmp_path / "scene.npy", depth)
    for sensor, file in (("rgb", "scene.png"), ("depth", "scene.npy")):
        expected = run.segment(study.card, scenes, [1])[sensor][0]
        np.testing.assert_array_equal(predict(run, study.card, tmp_path / file, sensor), expected)


def test_the_command_writes_ids_with_the_palette_at_the_picture_s_own_size(study, run, tmp_path, capsys):
    Image.new("RGB", (200, 90), (90, 120, 60)).save(tmp_path / "photo.png")
    out = tmp_path / "classes.png"
    given = ["predict", run.folder.name, str(tmp_path / "photo.png"), "--sensor", "rgb", "--out", str(out)]
    assert main(given) == 0
    written = Image.open(out)
    assert (written.mode, written.size) == ("P", (200, 90))
    assert written.getpalette()[: 3 * len(study.card.classes)] == [c for colour in study.card.palette for c in colour]
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(out)
    assert sum(float(line.split("%")[0]) for line in printed if "%" in line) == pytest.approx(100, abs=0.5)


def test_a_wrong_run_sensor_or_file_is_named(study, run, tmp_path, capsys):
    assert main(["predict", run.folder.name[:-1], "photo.png"]) == 2
    assert f"Did you mean '{run.folder.name}'?" in capsys.readouterr().err
    assert find_run(str(run.folder)).folder == run.folder
    with pytest.raises(ValueError, match=r"student's sensor 'dept'.*Did you mean 'depth'\?"):
        predict(run, study.card, "photo.png", "dept")
    with pytest.raises(ValueError, match="student's sensor"):
        predict(run, study.card, "photo.png")  # two students
    with pytest.raises(FileNotFoundError, match=r"photo\.png"):
        predict(run, study.card, tmp_path / "photo.png", "rgb")
    with pytest.raises(ValueError, match=r"depth as an \.npy file of \(H, W\) numbers in m"):
        predict(run, study.card, tmp_path / "photo.png", "depth")
    np.save(tmp_path / "three.npy", np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"float64 of shape \(2, 3, 4\), expected \(H, W\) numbers"):
        predict(run, study.card, tmp_path / "three.npy", "depth")
    assert str(home()) in str(run.folder)


def test_where_nothing_is_trained_yet_the_reader_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("CRODINO_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"no finished run in .* yet; train one: crodino study"):
        find_run("anything")
