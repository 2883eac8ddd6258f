"""Every row as a user would run it: `crodino run` on rooms, at the smoke profile."""

import json

import pytest

from crodino_lib.cli import main
from crodino_lib.methods.registry import METHODS

SMALL = ("--study", "small", "--encoder", "mobilenetv3_small_050", "--weights", "none")
FIRST_OF_A_KIND = {entry.build: name for name, entry in reversed(METHODS.items())}.values()


def make_home(tmp_path_factory):
    """Results and cache of one module, so that scenes are rendered and teachers trained once."""
    home = tmp_path_factory.mktemp("home")
    (home / "notebooks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRODINO_HOME", str(home))
        patch.setenv("CRODINO_CACHE", str(home / "cache"))
        yield home


def run(name, pair, home, monkeypatch, capsys, *options, splits=("test", "test_night")):
    """Train a row from the command line and check what it leaves behind."""
    monkeypatch.setenv("CRODINO_CACHE", str(home / "cache"))  # the suite gives every test its own
    assert main(["run", "--profile", "smoke", "--sensors", ",".join(pair), "--method", name, *options]) == 0
    folder = capsys.readouterr().out.strip().splitlines()[-1]
    with open(f"{folder}/run.json") as file:
        record = json.load(file)
    build = METHODS[name].build
    assert set(record["metrics"]) == {
        f"{split}/{student}" for split in splits for student in record["cost"]["students"]
    }
    assert all(0 <= metric["miou"] <= 1 for metric in record["metrics"].values())
    assert (record["parent"] is None) == (build.taught_by is None)
    assert record["cost"]["train_flops"] > record["cost"]["teacher_flops"] >= 0
    assert (record["cost"]["teacher_flops"] > 0) == (build.taught_by is not None)
    for cost in record["cost"]["students"].values():
        assert min(cost["parameters"], cost["flops"], cost["latency_ms"]) > 0
    return record
