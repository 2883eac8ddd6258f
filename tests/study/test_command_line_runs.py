"""One method of each kind as a user would run it: `crodino run` on rooms, at the smoke profile."""

import json

import pytest

from crodino_lib.cli import main
from crodino_lib.methods.registry import METHODS

SMALL = ("--encoder", "mobilenetv3_small_050", "--weights", "none", "--frames", "0")
FIRST_OF_A_KIND = {entry.path: name for name, entry in reversed(METHODS.items())}.values()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Results and cache of this module, so that scenes are rendered and teachers trained once."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRODINO_HOME", str(home))
        yield home


def run(name, pair, home, monkeypatch, capsys):
    """Train a method from the command line and check the record it leaves behind."""
    monkeypatch.setenv("CRODINO_CACHE", str(home / "cache"))  # the suite gives every test its own
    study = "-".join(pair)
    options = ["--profile", "smoke", "--sensors", ",".join(pair), "--method", name, "--study", study, *SMALL]
    assert main(["run", *options]) == 0
    folder = capsys.readouterr().out.strip().splitlines()[-1]
    with open(f"{folder}/run.json") as file:
        record = json.load(file)
    build, students = METHODS[name].build, record["cost"]["students"]
    expected = {(split, student) for split in ("test", "test_night") for student in students}
    assert {(row["split"], row["sensors"]) for row in record["metrics"]} == expected
    assert all(0 <= row["miou"] <= 1 for row in record["metrics"])
    assert (record["parent"] is None) == (build.taught_by is None)
    assert record["cost"]["train_flops"] > record["cost"]["teacher_flops"] >= 0
    frozen = build.taught_by is not None and name != "c2kd"  # which trains a copy of its teacher on
    assert (record["cost"]["teacher_flops"] > 0) == frozen
    for cost in students.values():
        assert min(cost["parameters"], cost["flops"], cost["latency_ms"]) > 0


@pytest.mark.parametrize("name", FIRST_OF_A_KIND)
def test_one_of_each_kind_runs_on_colour_and_depth(name, home, monkeypatch, capsys):
    run(name, ("rgb", "depth"), home, monkeypatch, capsys)


@pytest.mark.parametrize("name", ["kd", "crodino-kd", "csk-net"])
def test_headline_methods_run_on_colour_and_thermal(name, home, monkeypatch, capsys):
    run(name, ("rgb", "thermal"), home, monkeypatch, capsys)


def test_a_variant_runs_and_tables_are_compiled_from_its_record(home, monkeypatch, capsys):
    run("crodino-kd:c2".partition(":")[0], ("rgb", "depth"), home, monkeypatch, capsys)
    options = ["--profile", "smoke", "--study", "rgb-depth", "--method", "crodino-kd", "--variant", "c2", *SMALL]
    assert main(["run", *options]) == 0
    assert main(["tables", "rgb-depth"]) == 0
    assert "crodino-kd:c2" in capsys.readouterr().out
