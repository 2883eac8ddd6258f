"""A process that is killed, wherever it is, loses nothing: called again, it ends with the same records, bit for bit."""

import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import crodino_lib
from crodino_lib.cli import main
from crodino_lib.config import StudyConfig
from crodino_lib.study.study import Study

SETTINGS = ["--profile", "smoke", "--study", "killed"]
TIMED = re.compile(r"second|minute|\bmin\b|latency|peak")  # names of what differs between two equal runs


def start(arguments, folder):
    """Start the command in a group of processes of its own, with its own home and cache."""
    own = {"CRODINO_HOME": str(folder), "CRODINO_CACHE": str(folder / "cache"), "CRODINO_HEADLESS": "1"}
    command = [sys.executable, "-m", "crodino_lib.cli", *arguments, *SETTINGS]
    log = (folder / "log.txt").open("a")
    return subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log, cwd=folder, start_new_session=True)


def finish(arguments, folder):
    """Run the command to its end; returns the seconds that it took."""
    begun = time.monotonic()
    assert start(arguments, folder).wait(1200) == 0, (folder / "log.txt").read_text()[-2000:]
    return time.monotonic() - begun


def kill_at(moment, arguments, folder):
    """Start the command and kill it, and all that it has started, at a moment; returns whether it was still running."""
    process = start(arguments, folder)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        return True
    return False


def contents(folder):
    """Relative path -> what a finished study holds, but for times: records, tables, and weights as bytes."""
    found = {}
    for path in sorted((folder / "results" / "local" / "killed").rglob("*")):
        name = re.sub("-[0-9a-f]{12}(?=[-.])", "", path.relative_to(folder).as_posix())  # of a record, with its times
        if path.name.startswith(".") or not path.is_file() or "/notebooks/" in name:
            continue
        if path.suffix == ".json":
            found[name] = timeless(json.loads(path.read_text()))
        elif path.suffix in (".safetensors", ".npz"):
            found[name] = path.read_bytes()
        elif path.suffix == ".csv":
            table = pd.read_csv(path)
            found[name] = table[[column for column in table if not TIMED.search(column)]].to_csv()
    return found


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if not TIMED.search(key)}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def compared(arguments, kills, tmp_path, seed):
    """Kill a command at random moments, finish it, and compare with one that nobody disturbed."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for folder in (whole, torn):
        folder.mkdir()
    seconds, moments = finish(arguments, whole), random.Random(seed)
    killed = 0
    while killed < kills:
        begun = time.monotonic()
        if kill_at(moments.uniform(0.3, 1) * seconds / kills, arguments, torn):
            killed += 1
        else:  # it came to its end: the first one was slow, as the first use of anything is
            seconds, killed = time.monotonic() - begun, 0
            shutil.rmtree(torn)
            torn.mkdir()
    finish(arguments, torn)
    expected = contents(whole)
    assert any(name.endswith("run.json") for name in expected)
    assert contents(torn) == expected
    left = [path for path in torn.rglob("*") if path.name == "resume.pt" or path.name == "unfinished"]
    assert left == []


def test_a_run_that_is_killed_while_it_renders_trains_or_records_ends_with_the_same_record(tmp_path):
    compared(["run", "--method", "kd", "--student", "rgb", "--teacher", "baseline"], 2, tmp_path, seed=0)


def test_two_processes_of_one_study_train_each_run_once(tmp_path):
    arguments = ["run", "--method", "kd", "--student", "rgb", "--teacher", "baseline"]
    assert [process.wait(600) for process in [start(arguments, tmp_path) for _ in range(2)]] == [0, 0]
    log = (tmp_path / "log.txt").read_text()
    assert [len(re.findall(rf"{run} .*epoch +1/", log)) for run in ("baseline depth", "kd rgb")] == [1, 1]


class DiskThatFails:
    """Stands for ``os.replace``: what is written lies in its place but for one file, at which the disk fails."""

    def __init__(self, place, code, folder):
        self.place, self.code, self.folder, self.written, self.whole = place, code, folder, 0, os.replace

    def __call__(self, source, target):
        if self.folder in target.parents:
            self.written += 1
            if self.written == self.place:
                raise OSError(self.code, os.strerror(self.code))
        self.whole(source, target)


def test_a_disk_that_fails_at_any_file_is_told_and_the_command_goes_on_from_there(tmp_path, monkeypatch, capsys):
    """The command fails at its first file, then at its second, and so on, until it has no more to write."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    arguments, codes = ["run", "--method", "baseline", "--student", "rgb", *SETTINGS], [errno.ENOSPC, errno.EROFS]
    monkeypatch.setenv("CRODINO_HOME", str(whole))
    assert main(arguments) == 0
    monkeypatch.setenv("CRODINO_HOME", str(torn))
    for place in itertools.chain([1], itertools.count(1)):  # the study's own file, then those of the run
        disk = DiskThatFails(place, codes[place % 2], torn)
        monkeypatch.setattr(os, "replace", disk)
        status = main(arguments)
        if disk.written < place:
            break
        assert status == 2
        told = ("disk is full", "disk is read-only")[place % 2]
        assert re.search(rf"cannot write .* into .*torn.*{told}.*CRODINO_HOME", capsys.readouterr().err)
    assert (status, contents(torn)) == (0, contents(whole))
    assert place > 4  # weights, history, confusion, record


def test_nothing_depends_on_the_time_of_day():
    """So clocks that go back change nothing: seconds are counted by a clock that cannot."""
    source = "".join(path.read_text() for path in Path(crodino_lib.__file__).parent.rglob("*.py"))
    assert not re.search(r"time\.time\(|\.now\(|st_mtime|utcnow", source)


@pytest.mark.slow
def test_a_study_that_is_killed_twenty_times_ends_with_the_same_records(tmp_path):
    """Rendering, decoding, training, latents, notebooks, tables and the report."""
    compared(["study", "--methods", "baseline,kd,crodino-kd", "--teacher", "baseline"], 20, tmp_path, seed=1)


def read_everything(folder):
    study = Study.open(folder)
    run = study.run("baseline", ["rgb"])
    return run.history(), run.confusion(), run.segment(study.card, study.scenes["test"], [0])


@pytest.mark.parametrize("name", ["run.json", "history.csv", "confusion.npz", "student-rgb.safetensors", "study.json"])
def test_a_file_that_somebody_damaged_is_named_and_nothing_is_overwritten(tmp_path, name):
    """Cut in half by hand; the command says which file, and its other files stay as they were."""
    study = Study(StudyConfig.parse({"profile": "smoke", "study": "damaged"}), tmp_path)
    run = study.run("baseline", ["rgb"])
    file = study.folder / name if name == "study.json" else run.folder / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    before = {path: path.read_bytes() for path in study.folder.rglob("*") if path.is_file()}
    with pytest.raises((ValueError, OSError), match=name.replace(".", r"\.")):
        read_everything(str(study.folder))
    assert {path: path.read_bytes() for path in study.folder.rglob("*") if path.is_file()} == before
    assert main(["tables", str(study.folder)]) == (2 if name in ("run.json", "study.json", "confusion.npz") else 0)
