"""Spread runs and notebooks over workers of Dask: processes of this machine, or of a cluster that Dask can start."""

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import crodino_lib
from crodino_lib.config import TRAINING_VERSION, home
from crodino_lib.io import say

ANSWER_WITHIN_S = 20
GPU = "GPU"  # the resource of which a run takes one, where workers declare it: dask worker --resources GPU=1


@contextlib.contextmanager
def connected(workers: int = 0, scheduler: str = "") -> Iterator[None]:
    """Send what this process computes in parallel to Dask until the context ends; without arguments, change nothing.

    Args:
        workers: so many processes of this machine, one run each.
        scheduler: address of a running scheduler, such as ``tcp://10.0.0.1:8786``, instead.

    Raises:
        ImportError: Dask is not installed.
        OSError: no scheduler answers.
        ValueError: both are given, or a worker has another version or does not see the folder of results.
    """
    if not workers and not scheduler:
        yield
        return
    if (workers and scheduler) or workers < 0:
        raise ValueError(f"--workers {workers} and --scheduler {scheduler}: give one of them, and at least one worker")
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError(
            "--workers and --scheduler need Dask, which is missing: pip install 'crodino[dask]'"
        ) from error
    with contextlib.ExitStack() as stack:
        if workers:
            own = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))}
            one = {"threads_per_worker": 1, "memory_limit": None, "dashboard_address": "127.0.0.1:0"}
            cluster = stack.enter_context(LocalCluster(n_workers=workers, env=own, silence_logs=50, **one))
            scheduler = cluster.scheduler_address
        try:
            client = stack.enter_context(Client(scheduler, timeout=ANSWER_WITHIN_S))
        except OSError as error:
            told = f"no scheduler answers at {scheduler}: start one with `dask scheduler`, and workers"
            raise OSError(f"{told} with `dask worker {scheduler} --nthreads 1 --memory-limit 0`") from error
        check_workers(client)
        yield


def current_client() -> Any:
    """Return the client that ``connected`` made, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    with contextlib.suppress(ValueError):
        return default_client()
    return None


def check_workers(client: Any) -> None:
    """Wait for a worker; ValueError names those with another version, or without a view of the folder of results."""
    say(f"waiting for workers of {client.scheduler.address}")
    client.wait_for_workers(1)
    sign = home() / "results" / "local" / f".seen-{uuid.uuid4().hex}"
    sign.parent.mkdir(parents=True, exist_ok=True)
    sign.touch()
    try:
        answers, mine = client.run(_describe, sign), _describe(sign)
    finally:
        sign.unlink()
    if shared := [worker for worker, threads in client.nthreads().items() if threads > 1]:
        told = f"worker {shared[0]} has several threads, in which runs would share one stream of random numbers"
        raise ValueError(f"{told}: start it with --nthreads 1, and --nworkers for several runs at once")
    if wrong := {worker: told for worker, told in answers.items() if told != mine}:
        worker, (versions, seen) = next(iter(wrong.items()))
        if not seen:
            told = f"does not see {sign.parent}: results go through a folder that all machines share; set CRODINO_HOME"
        else:
            told = f"has {versions}, here there is {mine[0]}; install the same on every machine"
        raise ValueError(f"{len(wrong)} of {len(answers)} workers cannot take part. Worker {worker} {told}")
    say(f"{len(answers)} workers; {client.dashboard_link} shows what they do")


def _describe(sign: Path) -> tuple[str, bool]:
    return _versions(), sign.exists()


def _versions() -> str:
    torch_version = torch.__version__.partition("+")[0]  # a login node may have no GPU, and another build
    return f"crodino {crodino_lib.__version__}, training {TRAINING_VERSION}, torch {torch_version}"


def on_workers(client: Any, calls: Sequence[tuple], after: Mapping[int, list[int]]) -> Iterator[Any]:
    """Yield the results of calls (function, arguments) as they end; ``after`` has the calls that one waits for.

    A call whose worker is lost is made again by another. The first error ends all; OSError where one call has lost
    worker after worker.
    """
    from distributed import KilledWorker, as_completed

    declared = [worker["resources"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    tracked = {name: os.environ[name] for name in ("CRODINO_TRACK",) if name in os.environ}
    futures: list[Any] = []
    for place, call in enumerate(calls):
        waits = [futures[before] for before in after.get(place, [])]
        takes = {GPU: 1} if any(GPU in resources for resources in declared) else None
        here = (_versions(), {"CRODINO_HOME": str(home()), "CRODINO_HEADLESS": "1"} | tracked)
        futures.append(client.submit(_in_worker, waits, *here, *call, pure=False, resources=takes))
    try:
        for _, result in as_completed(futures, with_results=True):
            yield result
    except KilledWorker as error:
        told = "a run has lost every worker that took it; was their memory enough, and was --memory-limit 0 given?"
        raise OSError(f"{told} Its state is kept. ({error})") from error
    finally:
        client.cancel(futures)


def _in_worker(_: list, theirs: str, given: dict[str, str], function: Callable, *arguments: Any) -> Any:
    if theirs != _versions():  # of a worker that came later
        raise ValueError(f"a worker has {_versions()}, the study has {theirs}; install the same on every machine")
    os.environ |= given
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return function(*arguments)
