"""Bad input at the command line: one paragraph that names it, a status, nothing lost."""

import subprocess
import sys
import warnings

import pytest

from crodino_lib import cli
from crodino_lib.command_options import study_config
from crodino_lib.config import DataConfig, ModelConfig, StudyConfig, TrainConfig, profiles
from crodino_lib.data import layouts
from crodino_lib.data.registry import DATASETS
from crodino_lib.methods.registry import METHODS, VARIANTS


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
        (["run", "--method", "crodino"], "method 'crodino' does not exist; it must be one of baseline, baseline-aux"),
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
        (["run", "--method", "crodno"], "Did you mean 'crodino-kd'?"),
        (["run", "--method", "crodino-kd", "--variant", "c22"], "Did you mean 'c2'?"),
        (["study", "--methods", "baseline,crodino-kd:c22"], "Did you mean 'c2'?"),
        (["study", "--size", "100x100"], "try '112x112'"),
        (["list", "methods", "csknet"], "Did you mean 'csk-net'?"),
        (["study", "--epoch", "3"], "there is no argument '--epoch' here. Did you mean '--epochs'?"),
        (["--profile"], "there is no argument '--profile' here."),
        (["study", "--sensors", "rgb,dept"], "sensor of rooms 'dept' does not exist"),
        (["run", "--method", "baseline", "--student", "depht"], "Did you mean 'depth'?"),
        (
            ["run", "--method", "kd", "--student", "rgb", "--labelled", "0"],
            "labelled = 0: Input should be greater than",
        ),
        (["study", "--labelled", "many"], "labelled = 'many': Input should be a valid integer"),
        (["latents", "rooms-quick"], "there is no study in"),
        (["explore", "rooms-quick", "--split", "tests"], "begin one: crodino study"),
        (["run", "--method", "baseline", "--sensors", "rgb,oracle"], "'oracle' of rooms needs the option oracle=true"),
        (["dials", "labels", "--dataset", "nyu13"], "there is no argument '--dataset'"),
    ],
)
def test_bad_input_is_answered_with_what_would_do(arguments, told, capsys, monkeypatch):
    if "temprature=1" in arguments:
        monkeypatch.setattr("crodino_lib.study.study.Study.card", property(lambda study: _card()))
        monkeypatch.setattr("crodino_lib.study.study.Study.fingerprint", "x")
    assert told in error_of(capsys, *arguments)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--labelled", "15"], "labelled 15 is fewer than 16 classes; give 16 to 650, or 'all'"),
        (["--labelled", "651"], "labelled 651 is more than the 650 training scenes; give 16 to 650, or 'all'"),
        (["--labelled", "10", "--options", "evidence=1.0"], "labelled 10 is fewer than 11 classes"),
    ],
)
def test_too_few_or_too_many_labelled_scenes_are_told_before_any_is_rendered(given, told, capsys, monkeypatch):
    monkeypatch.setattr("crodino_lib.rooms.generate.render_rooms", lambda *_: pytest.fail("rendered"))
    given = ["--profile", "cpu", *given]
    assert told in error_of(capsys, "run", "--method", "kd", "--student", "rgb", *given)
    assert told in error_of(capsys, "study", *given)


def _card():
    from crodino_lib.data.sample import RGB, DatasetCard, Sensor

    sensors = {"rgb": RGB, "depth": Sensor(1, "m", (1.0,), (1.0,))}
    return DatasetCard("toy", "Toy", sensors, ("a", "b"), ((0, 0, 0), (9, 9, 9)), ("train", "val", "test"), (64, 48))


def test_every_setting_can_be_typed():
    """Text becomes what the type of a setting needs: the default of each is read back as it was."""
    texts = {}
    for name, field in StudyConfig.settings().items():
        default = field.get_default(call_default_factory=True)
        if name not in ("study", "root", "options", "dials"):
            text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            texts[name] = "null" if default is None else text
    texts["profile"] = "cpu"  # which labels all scenes
    typed = cli._parser().parse_args(["study", *(f"--{n.replace('_', '-')}={v.lower()}" for n, v in texts.items())])
    config = study_config(typed)
    assert (config.data, config.model, config.train) == (DataConfig(), ModelConfig(), TrainConfig())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--method", "crodno"]])
def test_help_and_a_misspelt_name_need_no_torch(arguments):
    """So they answer at once; torch takes seconds to import."""
    code = (
        "import sys; from crodino_lib.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False"


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


@pytest.mark.parametrize("method", ["baseline", "cirkd", "crodino-kd", "csk-net"])
def test_every_setting_and_variant_of_a_method_is_listed_with_its_meaning(method, capsys):
    cli.main(["list", "methods", method])
    listed = capsys.readouterr().out
    for name, field in METHODS[method].build.Settings.model_fields.items():
        assert f"{name} = " in listed
        assert field.description in listed
    assert all(f"{method}:{variant}" in listed for variant in VARIANTS.get(method, ()))


@pytest.mark.parametrize(
    "command", [[], ["study"], ["run"], ["tables"], ["latents"], ["explore"], ["inspect"], ["list"]]
)
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
