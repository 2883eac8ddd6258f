"""Rendered scenes on disk: one verified file each, rendered by every core, resumable at any moment."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from crodino_lib.config import DataConfig, cache_dir, parse_size
from crodino_lib.io import atomic_write, bar, file_lock, headless, say
from crodino_lib.rooms import furniture, grammar, render, scene, sensors

NATIVE = "256x192"
DONE = "done\n"
ARRAYS = ("rgb", "depth", "thermal", "label", "site", "factors")
Job = tuple[str, int]
"""A scene to render: its split and its number."""


def renderer_version() -> str:
    """A hash of everything that decides what a scene looks like: our source and Mitsuba's version."""
    sources = [Path(module.__file__).read_bytes() for module in (furniture, scene, grammar, render, sensors)]
    return hashlib.sha256(b"".join([*sources, version("mitsuba").encode()])).hexdigest()[:12]


def scene_id(job: Job) -> str:
    """The name of a scene within its dataset, such as ``train-00012``."""
    return f"{job[0]}-{job[1]:05d}"


@dataclass(frozen=True)
class Store:
    """The scenes of one renderer version, seed and size; larger counts extend smaller ones."""

    folder: Path
    seed: int
    width: int
    height: int
    version: str

    @classmethod
    def of(cls, config: DataConfig) -> Store:
        """Where the scenes of ``config`` are, or will be."""
        width, height = parse_size(NATIVE if config.size == "native" else config.size)
        version = renderer_version()
        folder = cache_dir() / "rooms" / f"{version}-{config.scene_seed}-{width}x{height}"
        return cls(folder, config.scene_seed, width, height, version)

    def path(self, job: Job) -> Path:
        """The file of one scene."""
        return self.folder / f"{scene_id(job)}.npz"

    def identity(self, job: Job) -> str:
        """What a file says it is; another seed's, size's or version's file says something else."""
        return f"rooms {self.version} seed {self.seed} size {self.width}x{self.height} {scene_id(job)}"

    def write(self, job: Job) -> None:
        """Render one scene into its file."""
        composed = grammar.compose(self.seed, *job)
        rng = np.random.default_rng([self.seed, scene.SPLITS.index(job[0]), job[1], 1])
        view = render.render(composed, self.width, self.height, int(rng.integers(2**30)))
        arrays = {
            "rgb": sensors.photograph(view, composed, rng),
            "depth": sensors.measure_depth(view, composed, rng),
            "thermal": sensors.measure_heat(view, composed, rng),
            "label": view.label.astype(np.uint8),
            "site": view.site.astype(np.uint8),
            "factors": np.array(list(composed.factors.values())),
        }
        with atomic_write(self.path(job)) as temporary:
            np.savez_compressed(temporary, identity=np.array(self.identity(job)), **arrays)

    def load(self, job: Job, digest: str) -> dict[str, np.ndarray]:
        """The arrays of one scene.

        Args:
            job: the scene.
            digest: the SHA-256 its file must have.

        Raises:
            FileNotFoundError: the scene is not there.
            ValueError: the file is not whole, not this scene, or not the bytes that were rendered.
        """
        data = self.path(job).read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != digest:
            raise ValueError(f"{self.path(job)} has changed since it was rendered: SHA-256 {found}, expected {digest}")
        return self._unpack(job, data)

    def _unpack(self, job: Job, data: bytes) -> dict[str, np.ndarray]:
        try:
            with np.load(io.BytesIO(data)) as archive:  # every entry is checked against its CRC
                identity, arrays = str(archive["identity"]), {name: archive[name] for name in ARRAYS}
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
            raise ValueError(f"{self.path(job)} is not a whole rendered scene: {error}") from error
        if identity != self.identity(job):
            raise ValueError(f"{self.path(job)} holds {identity!r}, expected {self.identity(job)!r}")
        return arrays

    def manifest(self) -> dict[str, str]:
        """Scene id -> SHA-256 of its file, for all scenes finished so far; empty where no manifest is readable."""
        try:
            return json.loads((self.folder / "manifest.json").read_text())["scenes"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}  # then every file is read and checked on its own, and the manifest written anew

    def _verified(self, jobs: Iterable[Job], known: dict[str, str]) -> dict[str, str]:
        """Scene id -> SHA-256, for those of ``jobs`` whose file is unchanged or, where not ``known``, whole."""
        good = {}
        for job in jobs:
            name = scene_id(job)
            try:
                data = self.path(job).read_bytes()
                if name not in known:
                    self._unpack(job, data)
            except (FileNotFoundError, ValueError):
                continue
            found = hashlib.sha256(data).hexdigest()
            if found == known.get(name, found):
                good[name] = found
        return good

    def complete(self, jobs: list[Job], progress: bool) -> tuple[dict[str, str], int]:
        """Render what is missing or damaged.

        Returns:
            Scene id -> SHA-256 of all ``jobs``, and how many of them were rendered now.

        Raises:
            OSError: the folder cannot be written or the disk is full; says how to choose another.
        """
        known = self.manifest()
        good = self._verified(jobs, known)
        if all(scene_id(job) in good and scene_id(job) in known for job in jobs):
            return good, 0
        with file_lock(self.folder):
            known = self.manifest()
            good = self._verified(jobs, known)  # another process may have rendered them while we waited
            missing = [job for job in jobs if scene_id(job) not in good]
            if damaged := [self.path(job).name for job in missing if self.path(job).exists()]:
                say(f"damaged or changed, rendered again: {', '.join(damaged)} in {self.folder}")
            _render_all(self, missing, progress)
            good |= self._verified(missing, {})
            with atomic_write(self.folder / "manifest.json") as temporary:
                temporary.write_text(json.dumps({"version": self.version, "scenes": {**known, **good}}, indent=0))
        return good, len(missing)


def _render_all(store: Store, jobs: list[Job], progress: bool) -> None:
    """Render ``jobs``, showing how fast: a bar, or ten lines in a log."""
    workers = min(os.cpu_count() or 1, len(jobs) // 16)  # a process starts in the time of a few scenes
    finished = _by_workers(store, jobs, workers) if workers > 1 else map(store.write, jobs)
    start = time.perf_counter()
    with bar(total=len(jobs), label="rendering rooms", unit="scene") as shown:
        for done, _ in enumerate(finished, start=1):
            shown.update()
            if progress and headless() and done * 10 // len(jobs) > (done - 1) * 10 // len(jobs):
                rate = done / (time.perf_counter() - start)
                say(f"rendering rooms: {done} of {len(jobs)} scenes, {rate:.1f} scenes/s")


def _by_workers(store: Store, jobs: list[Job], workers: int) -> Iterator[None]:
    """Share the scenes among processes that report every finished one over a common pipe.

    Commands, not multiprocessing: a script without a main guard and a notebook work alike, and nothing is forked.
    """
    receiving, sending = os.pipe()
    processes = [_start_worker(store, jobs[i::workers], sending) for i in range(workers)]
    os.close(sending)
    complaints, done = [], 0
    try:
        with os.fdopen(receiving) as reports:
            for line in reports:
                if line == DONE:
                    done += 1
                    yield
                else:
                    complaints.append(line)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if done < len(jobs):
        reason = complaints[-1].strip() if complaints else "the processes were killed"
        raise OSError(f"only {done} of {len(jobs)} scenes could be rendered: {reason}")


def _start_worker(store: Store, jobs: list[Job], sending: int) -> subprocess.Popen:
    checkout = str(Path(__file__).parents[2])
    paths = os.pathsep.join([checkout, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(store.folder), str(store.seed), str(store.width), str(store.height)],
        stdin=subprocess.PIPE,
        stdout=sending,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    with process.stdin as orders:
        orders.writelines(f"{split} {index}\n" for split, index in jobs)
    return process


def _work(folder: str, seed: str, width: str, height: str) -> None:
    store = Store(Path(folder), int(seed), int(width), int(height), renderer_version())
    for order in sys.stdin.read().splitlines():
        split, index = order.split()
        store.write((split, int(index)))
        os.write(sys.stdout.fileno(), DONE.encode())  # whole lines: the workers share the pipe


if __name__ == "__main__":
    try:
        _work(*sys.argv[1:])
    except OSError as error:
        sys.exit(f"{error}")
