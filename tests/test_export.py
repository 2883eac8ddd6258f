"""A student leaves the study: the file gives the run's classes, and needs neither the study nor torch."""

import json
import subprocess
import sys
import venv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from crodino_lib import export
from crodino_lib.cli import main
from crodino_lib.config import StudyConfig
from crodino_lib.export import export_run, model_card
from crodino_lib.predict import deployed
from crodino_lib.study.study import Study

SIZES = ((64, 48), (97, 131), (240, 320))  # of pictures (H, W); the first is what networks see at smoke


@pytest.fixture(scope="module")
def study():
    return Study(StudyConfig.parse({"profile": "smoke", "study": "exported"}))


@pytest.fixture(scope="module")
def run(study):
    for control in ("baseline", "self-training"):
        study.run(control, ["rgb"])
    return study.run("crodino-kd")


@pytest.fixture(scope="module")
def onnx_of_rgb(run, tmp_path_factory):
    return export_run(str(run.folder), "onnx", "rgb", str(tmp_path_factory.mktemp("rgb")))


def pictures(size, generator):
    """An RGB picture with structure, and a depth with holes, of (H, W)."""
    coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    rgb = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))
    depth = np.asarray(Image.fromarray(rgb).convert("L")).astype(np.float32) / 50 + 0.5
    depth[generator.random(size) < 0.1] = np.nan
    return {"rgb": rgb, "depth": depth}


def same_classes(run, study, sensors, segment):
    """Compare with the study's own student at several sizes; returns the share of equal pixels at each."""
    student, generator, shares = (
        deployed(run, study.card, sensors, study.card.native_size),
        np.random.default_rng(0),
        [],
    )
    for size in SIZES:
        given = [pictures(size, generator)[name] for name in sensors.split("+")]
        with torch.inference_mode():
            expected = student(*map(torch.tensor, given)).numpy()
        found = segment(given)
        assert (found.shape, found.dtype) == (size, np.uint8)
        shares.append((found == expected).mean())
    return shares


def session(folder, sensors):
    loaded = onnxruntime.InferenceSession(folder / "model.onnx")
    return lambda given: loaded.run(None, dict(zip(sensors.split("+"), given, strict=True)))[0]


def test_an_onnx_file_takes_pictures_of_any_size_and_gives_the_run_s_classes(study, run, onnx_of_rgb):
    assert min(same_classes(run, study, "rgb", session(onnx_of_rgb, "rgb"))) > 0.999


def test_a_student_of_two_sensors_takes_both_and_its_depth_may_have_holes(study, tmp_path, monkeypatch):
    both = study.run("early")
    monkeypatch.setattr(export, "CHECKED", 2)
    folder = export_run(str(both.folder), out=str(tmp_path / "both"))
    assert min(same_classes(both, study, "rgb+depth", session(folder, "rgb+depth"))) > 0.999
    assert json.loads((folder / "config.json").read_text())["inputs"]["depth"] == {"unit": "m", "channels": 1}
    assert (
        "| `depth` | (H, W) float32 | in m; 0 and what is not finite is no measurement |"
        in (folder / "README.md").read_text()
    )


def test_a_program_of_torch_runs_where_crodino_is_not(study, run, tmp_path):
    """In a Python in which crodino cannot be imported; depth goes in, as an array."""
    assert (
        main(["export", run.folder.name, "--format", "torch", "--sensors", "depth", "--out", str(tmp_path / "out")])
        == 0
    )
    given = pictures(SIZES[1], np.random.default_rng(1))["depth"]
    np.save(tmp_path / "out" / "scene.npy", given)
    hidden = (
        "import runpy, sys; sys.modules['crodino_lib'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    )
    command = [sys.executable, "-c", hidden, "segment.py", "scene.npy", "classes.png"]
    subprocess.run(command, cwd=tmp_path / "out", check=True)
    with torch.inference_mode():
        expected = deployed(run, study.card, "depth", (0, 0))(torch.tensor(given)).numpy()
    assert (np.asarray(Image.open(tmp_path / "out" / "classes.png")) == expected).mean() > 0.999


def test_an_onnx_file_segments_a_png_in_a_fresh_environment(study, run, onnx_of_rgb, tmp_path):
    """With ONNX Runtime and Pillow alone: neither torch nor crodino is there."""
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "onnxruntime", "pillow"]
    if subprocess.run(install, check=False).returncode:
        pytest.skip("no package registry can be reached")
    packages = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "crodino"} & {line.split()[0] for line in packages.splitlines()}
    rgb = pictures(SIZES[2], np.random.default_rng(2))["rgb"]
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    command = [python, "segment.py", tmp_path / "photo.png", tmp_path / "classes.png"]
    subprocess.run(command, cwd=onnx_of_rgb, check=True)
    written = Image.open(tmp_path / "classes.png")
    assert written.getpalette()[: 3 * len(study.card.classes)] == [c for colour in study.card.palette for c in colour]
    with torch.inference_mode():
        expected = deployed(run, study.card, "rgb", (0, 0))(torch.tensor(rgb)).numpy()
    assert (np.asarray(written) == expected).mean() > 0.999


def test_the_model_card_says_what_the_model_is_and_how_good_beside_its_controls(study, run, onnx_of_rgb):
    card = ModelCard((onnx_of_rgb / "README.md").read_text())
    (result,) = card.data.eval_results
    assert (result.metric_type, result.dataset_name) == ("mean_iou", "Rooms")
    assert result.metric_value == pytest.approx(run.miou("rgb"), abs=1e-4)
    rows = [line.split(" | ")[0].strip("| ") for line in card.text.splitlines() if line.startswith("| ")]
    assert [name for name in rows if name in ("baseline", "self-training", "crodino-kd")] == [
        "baseline",
        "self-training",
        "crodino-kd",
    ]
    for said in ("reconstruction, not the authors' code", "for tests: shows that everything runs", "MIT licence"):
        assert said in card.text
    assert card.data.license == "mit"


def test_pictures_that_must_not_be_passed_on_are_no_licence_for_the_weights(study, run):
    card = replace(study.card, licensed=True, homepage="https://dataset.example", title="Somebody's")
    text = model_card(run, SimpleNamespace(card=card, caveat=study.caveat), "rgb", "onnx", 1.0, 6)
    assert ModelCard(text).data.license == "other"
    assert "terms of Somebody's" in text
    assert "Read the terms before you publish" in text


def test_a_file_that_gives_other_classes_is_refused_and_has_no_card(run, tmp_path, monkeypatch):
    monkeypatch.setitem(export.WRITERS, "onnx", lambda student, path: lambda given: np.zeros(given[0].shape[:2]) - 1)
    with pytest.raises(ValueError, match=r"model\.onnx gives another class than .* at 100\.00% of the pixels"):
        export_run(str(run.folder), "onnx", "rgb", str(tmp_path / "out"))
    assert not (tmp_path / "out" / "README.md").exists()


def test_a_folder_that_holds_other_files_is_left_alone(run, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no export; files there would be lost"):
        export_run(str(run.folder), "onnx", "rgb", str(tmp_path))
    assert (tmp_path / "README.md").read_text() == "mine"


def test_wrong_requests_are_told_before_anything_is_traced(study, run, capsys, tmp_path, monkeypatch):
    assert main(["export", run.folder.name, "--sensors", "rbg"]) == 2
    assert "student 'rbg' does not exist; it must be one of rgb, depth. Did you mean 'rgb'?" in capsys.readouterr().err
    assert main(["export", run.folder.name]) == 2
    assert "it must be one of rgb, depth" in capsys.readouterr().err
    filled = StudyConfig.parse({"profile": "smoke", "study": "filled", "depth_holes": "nearest"})
    with pytest.raises(ValueError, match="no graph of tensors; train with depth_holes = 'none' or 'constant'"):
        export_run(str(Study(filled).run("baseline", ["depth"]).folder), out=str(tmp_path / "depth"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ImportError, match=r"model\.onnx .* onnxruntime, which is missing: pip install 'crodino\[export\]'"
    ):
        export_run(str(run.folder), "onnx", "rgb", str(tmp_path / "rgb"))
    assert not list((tmp_path / "rgb").iterdir())
