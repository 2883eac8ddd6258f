"""``rooms``: rendered indoor scenes seen by a colour, a depth and a thermal camera. Built in; nothing to download."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from crodino_lib.config import DataConfig, choose
from crodino_lib.data.sample import RGB, DatasetCard, Sample, SceneDataset, Sensor
from crodino_lib.io import say
from crodino_lib.rooms.factors import FACTORS
from crodino_lib.rooms.scene import CLASSES, FIELD_OF_VIEW, SPLITS
from crodino_lib.rooms.store import Job, Store, scene_id

PALETTE = (
    *((174, 199, 232), (152, 120, 90), (199, 233, 192), (23, 190, 207), (140, 86, 75), (227, 119, 194)),
    *((197, 176, 213), (255, 187, 120), (188, 189, 34), (44, 100, 160), (214, 39, 40), (255, 235, 59)),
    *((255, 127, 14), (90, 90, 90), (44, 160, 44), (148, 103, 189)),
)


@dataclass(frozen=True)
class Rendered:
    """What a rendering did.

    Attributes:
        folder: where the scenes are.
        scenes: how many were rendered now; the others were there already.
        seconds: how long that took.
        checksum: SHA-256 over all scenes asked for; identifies the dataset.
    """

    folder: Path
    scenes: int
    seconds: float
    checksum: str

    @property
    def scenes_per_second(self) -> float:
        """0 where nothing had to be rendered."""
        return self.scenes / self.seconds if self.scenes else 0.0


def split_counts(config: DataConfig) -> dict[str, int]:
    """Scenes per split; the all-night test has half as many as the test, and at least one."""
    return dict(zip(SPLITS, (*config.scenes, max(config.scenes[2] // 2, 1)), strict=True))


def render_rooms(config: DataConfig, progress: bool = True) -> Rendered:
    """Render the scenes of ``config`` that are not there yet, on every core.

    Safe to interrupt: finished scenes are kept, damaged ones rendered anew.

    Raises:
        OSError: the cache cannot be written or the disk is full; names the folder and ``CRODINO_CACHE``.
    """
    return _rendered(config, progress)[0]


def open_rooms(config: DataConfig, progress: bool = True) -> RoomsDataset:
    """Open the built-in dataset, rendering first what is missing (see ``render_rooms``)."""
    rendered, digests = _rendered(config, progress)
    return RoomsDataset(config, digests, rendered.checksum)


def _rendered(config: DataConfig, progress: bool) -> tuple[Rendered, dict[str, str]]:
    store, start = Store.of(config), time.perf_counter()
    jobs = [(split, index) for split, count in split_counts(config).items() for index in range(count)]
    digests, new = store.complete(jobs, progress)
    checksum = hashlib.sha256("".join(digests[scene_id(job)] for job in jobs).encode()).hexdigest()
    result = Rendered(store.folder, new, time.perf_counter() - start, checksum)
    if progress and new:
        say(f"rendered {new} scenes in {result.seconds:.0f} s ({result.scenes_per_second:.1f}/s) into {store.folder}")
    return result, digests


class RoomsDataset(SceneDataset):
    """Rendered rooms.

    Sensors: ``rgb``; ``depth`` in metres along the viewing axis, 0 where invalid; ``thermal`` in degrees C.
    Classes: see ``scene.CLASSES``; some pairs of them only one sensor can tell apart (``scene.PAIRS``).
    Every scene's generative factors are recorded (``factors.FACTORS``).

    Attributes:
        checksum: SHA-256 over the files of all its scenes.
    """

    def __init__(self, config: DataConfig, digests: dict[str, str], checksum: str):
        self.store, self.checksum = Store.of(config), checksum
        self._counts, self._digests = split_counts(config), digests
        self.card = DatasetCard(
            name="rooms",
            title="Rooms",
            sensors={
                "rgb": RGB,
                "depth": Sensor(1, "m", mean=(3.7,), std=(1.2,), focal=0.5 / math.tan(FIELD_OF_VIEW / 2)),
                "thermal": Sensor(1, "degrees C", mean=(21.7,), std=(5.2,)),
            },
            classes=CLASSES,
            palette=PALETTE,
            splits=SPLITS,
            native_size=(self.store.width, self.store.height),
            notes="Rendered with Mitsuba 3 from a scene grammar; may be redistributed.",
            licensed=False,
        )

    def ids(self, split: str) -> list[str]:
        """Scene ids of a split, such as ``train-00012``."""
        choose(split, SPLITS, "split")
        return [scene_id((split, index)) for index in range(self._counts[split])]

    def read(self, scene_id: str) -> Sample:
        """Read one scene; see ``SceneDataset.read``."""
        arrays = self._load(scene_id)
        depth = arrays["depth"].astype(np.float32) / 1000
        thermal = arrays["thermal"].astype(np.float32) / 100
        return {
            "rgb": arrays["rgb"],
            "depth": depth,
            "depth_valid": depth > 0,
            "thermal": thermal,
            "thermal_valid": np.ones(thermal.shape, bool),
            "label": arrays["label"].astype(np.int64),
            "id": scene_id,
        }

    def sites(self, scene_id: str) -> np.ndarray:
        """(H, W) uint8: which pixels belong to which pair object of the scene, 0 for none."""
        return self._load(scene_id)["site"]

    def factors(self, split: str) -> pd.DataFrame:
        """Recorded generative factors, one row per scene indexed by id."""
        ids = self.ids(split)
        values = [self._load(scene)["factors"] for scene in ids]
        return pd.DataFrame(values, index=pd.Index(ids, name="id"), columns=[factor.name for factor in FACTORS])

    def fingerprint(self) -> str:
        """A hash of the renderer's version, the seed, the size and the counts: together they decide every pixel."""
        store = self.store
        text = f"rooms {store.version} {store.seed} {store.width}x{store.height} {sorted(self._counts.items())}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _load(self, scene_id: str) -> dict[str, np.ndarray]:
        choose(scene_id, self._digests, "scene")
        return self.store.load(_job(scene_id), self._digests[scene_id])


def _job(scene_id: str) -> Job:
    split, _, index = scene_id.rpartition("-")
    return split, int(index)
