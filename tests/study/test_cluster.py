"""Runs on workers of Dask: a real scheduler and real processes, one of which is killed on the way."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from distributed import Client, LocalCluster

from crodino_lib.cli import main
from crodino_lib.config import StudyConfig
from crodino_lib.study import cluster
from crodino_lib.study.cluster import check_workers, connected, current_client, on_workers
from crodino_lib.study.pipeline import train_grid
from crodino_lib.study.study import Study

SHORT = {
    "profile": "smoke",
    "study": "spread",
    "methods": ("baseline", "early", "self-training", "kd"),
    "teacher": "early",
    "seeds": 1,
}
TIMES = {"train_seconds", "latency_ms", "peak_memory_bytes", "seconds", "device"}


def timeless(value):
    """A record without what differs between two equal runs: times, memory."""
    if isinstance(value, dict):
        return {name: timeless(part) for name, part in value.items() if name not in TIMES}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def records(study):
    """Folder -> record, weights and confusion of every run."""
    found = {}
    for file in study.folder.glob("runs/*/*/*/run.json"):
        parts = {path.name: path.read_bytes() for path in file.parent.glob("*.safetensors")}
        found[f"{file.parent.parent.name}/{file.parent.name}"] = (timeless(json.loads(file.read_text())), parts)
    return found


def kill_a_worker(study, count):
    """Kill the process of a worker as soon as so many runs have begun, as a machine that fails would."""
    end = time.monotonic() + 300  # where training fails, this must end, too
    while len(list(study.folder.glob("runs/*/*/*/"))) < count:
        assert time.monotonic() < end, "no runs have begun"
        time.sleep(0.02)
    killed = next(iter(current_client().run(os.getpid).values()))
    os.kill(killed, signal.SIGKILL)
    return killed


@pytest.mark.parametrize(("workers", "seeds"), [(2, 1), pytest.param(4, 4, marks=pytest.mark.slow)])
def test_workers_one_of_which_is_killed_make_the_records_of_one_process(tmp_path, workers, seeds):
    config = StudyConfig.parse(SHORT | {"seeds": seeds})
    alone, spread = Study(config, tmp_path / "alone"), Study(config, tmp_path / "spread")
    for run in alone.grid():
        alone.fetch(run)
    with connected(workers=workers):
        with ThreadPoolExecutor(1) as pool:
            killed = pool.submit(kill_a_worker, spread, 3)
            train_grid(spread)
        assert killed.result() not in current_client().run(os.getpid).values()
    expected = records(alone)
    assert len(expected) == 7 * seeds
    assert records(spread) == expected


@contextmanager
def in_process(**options):
    """A scheduler and workers in this process, which start at once."""
    with LocalCluster(processes=False, dashboard_address=None, **options) as workers, Client(workers) as client:
        yield client


def test_a_call_waits_for_those_it_needs_and_the_first_error_ends_all(tmp_path):
    with in_process(n_workers=2, threads_per_worker=1) as client:
        calls = [(_note, tmp_path, name, seconds) for name, seconds in (("teacher", 0.5), ("student", 0), ("other", 0))]
        assert set(on_workers(client, calls, {1: [0]})) == {"teacher", "student", "other"}
        times = {name: float((tmp_path / name).read_text()) for name in ("teacher", "student", "other")}
        assert times["student"] > times["teacher"] > times["other"]
        with pytest.raises(FileNotFoundError, match="absent"):
            list(on_workers(client, [(_note, tmp_path / "absent", "a", 0), (_note, tmp_path, "b", 0)], {1: [0]}))
        assert not (tmp_path / "b").exists()


def _note(folder, name, seconds):
    time.sleep(seconds)
    (folder / name).write_text(str(time.time()))
    return name


def test_a_run_takes_a_gpu_where_workers_declare_them(tmp_path):
    """Two GPUs of one worker with four threads: never more than two calls at once."""
    with in_process(n_workers=1, threads_per_worker=4, resources={"GPU": 2}) as client:
        spans = list(on_workers(client, [(_span, 0.3)] * 6, {}))
    at_once = max(sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans)
    assert at_once == 2


def _span(seconds):
    begun = time.time()
    time.sleep(seconds)
    return begun, time.time()


def test_what_cannot_work_is_told_before_anything_is_sent(monkeypatch, capsys):
    with pytest.raises(ValueError, match="give one of them"), connected(2, "tcp://here:1"):
        pass
    monkeypatch.setattr(cluster, "ANSWER_WITHIN_S", 0.5)
    assert main(["study", "--profile", "smoke", "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "no scheduler answers at tcp://127.0.0.1:9: start one with `dask scheduler`" in capsys.readouterr().err
    answer = {"tcp://a:1": ("crodino 0.1.0, training 1, torch 2.0", True)}
    client = type("Client", (), {"scheduler": type("S", (), {"address": "tcp://s"}), "wait_for_workers": print})()
    client.run, client.nthreads = lambda *_: answer, lambda: {"tcp://a:1": 1}
    with pytest.raises(
        ValueError, match=r"Worker tcp://a:1 has crodino 0\.1\.0, .*; install the same on every machine"
    ):
        check_workers(client)
    answer["tcp://a:1"] = ("", False)
    with pytest.raises(ValueError, match=r"does not see .*; set CRODINO_HOME"):
        check_workers(client)
    client.nthreads = lambda: {"tcp://b:1": 4}
    with pytest.raises(ValueError, match=r"worker tcp://b:1 has several threads.*: start it with --nthreads 1"):
        check_workers(client)


def test_without_workers_nothing_is_connected():
    with connected():
        assert current_client() is None
