"""Bad input at the command line: one paragraph that names it, a status, nothing lost."""

import warnings

import pytest

from crodino_lib import cli
from crodino_lib.config import StudyConfig, profiles
from crodino_lib.data import layouts
from crodino_lib.data.registry import DATASETS
from crodino_lib.methods.registry import METHODS


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("CRODINO_HOME", str(tmp_path / "home"))


def error_of(capsys, *arguments):
    status = cli.main(arguments)
    told = capsys.readouterr().err
    assert status != 0
    assert "Traceback" not in told
    assert "\n\n" not in told.strip()
    return told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--method", "crodino"], "method 'crodino' does not exist; it must be one of baseline, early, acnet"),
        (["study", "--dataset", "nyu31"], "Did you mean 'nyu13'?"),
        (["study", "--profile", "fast"], "profile 'fast' does not exist; it must be one of smoke, quick"),
        (["run", "--method", "baseline", "--epochs", "many"], "epochs = 'many': Input should be a valid integer"),
        (
            ["run", "--method", "crodino-kd", "--set", "temprature=1", "--profile", "smoke"],
            "Did you mean 'temperature'?",
        ),
        (["run", "--method", "crodino-kd", "--set", "temperature"], "must be NAME=VALUE"),
        (["study", "--dataset", "nyu13"], "dataset 'nyu13' needs root"),
        (["study", "--dataset", "nyu13", "--root", "nowhere/nyu"], "nowhere/nyu"),
        (["render", "--size", "100x100"], "try '112x112'"),
        (["params", "99"], "no notebooks in"),
        (["latents", "rooms-quick"], "there is no study in"),
        (["explore", "rooms-quick", "--points", "-10"], "--points -10: a picture needs at least 10"),
        (["explore", "rooms-quick", "--split", "tests"], "begin one: crodino study"),
    ],
)
def test_bad_input_is_answered_with_what_would_do(arguments, told, capsys, monkeypatch):
    if "temprature=1" in arguments:
        monkeypatch.setattr("crodino_lib.study.study.Study.card", property(lambda study: _card()))
        monkeypatch.setattr("crodino_lib.study.study.Study.fingerprint", "x")
    assert told in error_of(capsys, *arguments)


def _card():
    from crodino_lib.data.sample import RGB, DatasetCard, Sensor

    sensors = {"rgb": RGB, "depth": Sensor(1, "m", (1.0,), (1.0,))}
    return DatasetCard("toy", "Toy", sensors, ("a", "b"), ((0, 0, 0), (9, 9, 9)), ("train", "val", "test"), (64, 48))


def test_every_setting_that_is_a_whole_number_can_be_typed():
    """A new one is added to what the command line reads as numbers."""
    allowed = StudyConfig.model_json_schema()["properties"]
    kinds = {name: [*field.get("anyOf", []), field] for name, field in allowed.items()}
    whole = [name for name, found in kinds.items() if any(kind.get("type") == "integer" for kind in found)]
    assert sorted(whole) == sorted(cli.INTEGERS)
    typed = cli._parser().parse_args(["study", *(f"--{name.replace('_', '-')}=16" for name in whole)])
    assert {getattr(cli._study_config(typed), name) for name in whole} == {16}


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["study", "--epoch", "3"])
    assert stopped.value.code == 2
    assert "--epoch" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(capsys, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("CRODINO_HOME", str(blocked))
    assert str(blocked) in error_of(capsys, "study", "--profile", "smoke")


@pytest.mark.parametrize(("what", "names"), [("methods", METHODS), ("datasets", DATASETS), ("profiles", profiles())])
def test_list_names_everything_that_can_be_named(what, names, capsys):
    assert cli.main(["list", what]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in names)


def test_every_setting_of_a_method_is_listed_with_its_meaning(capsys):
    cli.main(["list", "methods"])
    listed = capsys.readouterr().out
    for entry in METHODS.values():
        for name, field in entry.build.Settings.model_fields.items():
            assert f"{name} = " in listed
            assert field.description in listed


@pytest.mark.parametrize("command", [[], ["study"], ["run"], ["render"], ["list"], ["params"], ["status"], ["lab"]])
def test_help_teaches_every_command(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    assert stopped.value.code == 0
    assert len(capsys.readouterr().out) > 80


def test_what_should_be_known_of_a_copy_is_a_sentence(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    layouts.show_plainly()
    assert warnings.formatwarning("few scenes", layouts.DataWarning, "x.py", 1) == "note: few scenes\n"
    assert "x.py:1: UserWarning: other" in warnings.formatwarning("other", UserWarning, "x.py", 1, line="")
