"""TensorBoard shows a training while it runs: the scalars of the history, predictions and latents; nothing changes."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crodino_lib.callbacks import CountOperations
from crodino_lib.cli import main
from crodino_lib.config import ModelConfig, RunConfig, StudyConfig
from crodino_lib.io import load_npz
from crodino_lib.methods.registry import build_method
from crodino_lib.study.study import Study
from crodino_lib.tracking import Track
from crodino_lib.training import Training

SMOKE = {"profile": "smoke", "study": "tracked"}


def events(run):
    accumulator = EventAccumulator(str(run.folder / "events"))
    accumulator.Reload()
    return accumulator


def test_it_tells_what_the_history_has_and_the_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    config = StudyConfig.parse(SMOKE | {"epochs": 2})
    untold = Study(config, tmp_path / "untold").run("crodino-kd")
    assert not (untold.folder / "events").exists()
    monkeypatch.setenv("CRODINO_TRACK", "tensorboard")
    run = Study(config, tmp_path / "told").run("crodino-kd")
    for name in ("student-rgb.safetensors", "student-depth.safetensors"):
        assert (run.folder / name).read_bytes() == (untold.folder / name).read_bytes()
    with load_npz(run.folder / "confusion.npz") as mine, load_npz(untold.folder / "confusion.npz") as theirs:
        assert {key: mine[key].tolist() for key in mine} == {key: theirs[key].tolist() for key in theirs}
    found, history = events(run), run.history()
    for name in ("val_miou/rgb", "segmentation/depth", "learning_rate"):
        told = [event.value for event in found.Scalars(f"epoch/{name}")]
        assert told == pytest.approx(history[name].tolist(), rel=1e-5)
    assert {"loss/contrast", "loss/overlap"} <= set(found.Tags()["scalars"])
    assert set(found.Tags()["images"]) == {"truth, prediction/rgb", "truth, prediction/depth"}
    assert len(found.Images("truth, prediction/rgb")) == 2  # an epoch each
    projector = (run.folder / "events" / "projector_config.pbtxt").read_text()
    assert "private" in projector
    assert "shared" in projector
    (names, *_) = sorted((run.folder / "events").glob("*/shared/metadata.tsv"))
    assert names.read_text().splitlines()[0] == "class\tsensor"


def test_a_run_may_be_tracked_from_an_interruption_on_or_no_longer(tmp_path, toy_scenes, toy_card):
    config = RunConfig(
        method="baseline", sensors=("rgb",), model=ModelConfig(encoder="test_efficientnet", weights="none")
    )
    method, file = build_method(config, toy_card), tmp_path / "resume.pt"
    tracked = (CountOperations(), Track(tmp_path / "events"))

    def training(callbacks):
        return Training(method, config, toy_scenes, toy_scenes, torch.device("cpu"), "fp32", callbacks)

    for before, after in ((tracked, tracked[:1]), (tracked[:1], tracked)):
        tracked[0].state = {"total": 7}
        training(before).save(file)
        tracked[0].state = {}
        training(after).load(file)
        assert tracked[0].state == {"total": 7}


def test_a_tracker_that_does_not_exist_is_told_with_those_there_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CRODINO_TRACK", "tensorbord")
    with pytest.raises(ValueError, match=r"CRODINO_TRACK 'tensorbord' .* Did you mean 'tensorboard'\?"):
        Study(StudyConfig.parse(SMOKE), tmp_path).run("baseline", ["rgb"])
    with pytest.raises(SystemExit):
        main(["run", "--method", "baseline", "--track", "wandb"])
    assert "invalid choice: 'wandb' (choose from" in capsys.readouterr().err
