"""``rooms``: rendered indoor scenes seen by a colour, a depth and a thermal camera, as an ordinary folder dataset."""

import hashlib
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from PIL import Image

from crodino_lib.config import DataConfig, cache_dir, parse_size
from crodino_lib.data.folder import FolderDataset
from crodino_lib.data.folder_spec import read_spec
from crodino_lib.data.sample import Sample
from crodino_lib.io import atomic_write, bar, file_lock, headless, say
from crodino_lib.rooms import grammar, render, sensors
from crodino_lib.rooms.options import Dials, RoomsOptions
from crodino_lib.rooms.scene import FACTORS, SPEC, SPLITS

RENDERER_VERSION = 1  # raise it when other pixels or factors are computed: all scenes are then rendered again
PICTURES = ("rgb", "depth", "thermal", "label", "site")
COLUMNS = [*FACTORS, "bytes"]  # bytes last, so that a row cut short is noticed
SCENES_PER_PROCESS = 16  # starting a process takes as long as a few scenes


class RoomsDataset(FolderDataset):
    """Rendered rooms with recorded factors and pairs of classes that one sensor only tells apart (``scene.PAIRS``)."""

    def __init__(self, root: Path, splits: dict[str, list[str]], options: RoomsOptions):
        super().__init__(read_spec(SPEC), root, splits)
        self.dials = Dials(options)
        self.card = replace(self.card, **self.dials.card_changes(self.card))

    def rendered(self, scene_id: str) -> Sample:
        """Read one scene as it is rendered, with all of ``scene.CLASSES``."""
        return super().read(scene_id)

    def read(self, scene_id: str) -> Sample:
        """Read one scene as the options show it; see ``SceneDataset.read``."""
        return self.dials.apply(self.rendered(scene_id), self.card)

    def sites(self, scene_id: str) -> np.ndarray:
        """Return the number of the pair object that each pixel shows, (H, W) uint8; 0 for none."""
        return np.asarray(Image.open(self.root / "site" / f"{scene_id}.png"))

    def factors(self, split: str) -> pd.DataFrame:
        """Return the recorded generative factors (``scene.FACTORS``), one row per scene indexed by id."""
        return _rendered(self.root).loc[self.ids(split), COLUMNS[:-1]]

    def fingerprint(self) -> str:
        """Return a hash of the renderer's version, seed and size, counts and options, which decide every pixel."""
        counts = [len(self.ids(split)) for split in SPLITS]
        options = self.dials.options.model_dump(exclude_defaults=True)
        return hashlib.sha256(f"rooms {self.root.name} {counts}{options or ''}".encode()).hexdigest()[:16]


def open_rooms(config: DataConfig) -> RoomsDataset:
    """Open the built-in dataset; missing scenes are rendered first (see ``render_rooms``)."""
    options = RoomsOptions.parse(config.options, "options of rooms")
    config.check_labelled(config.scenes[0], len(Dials(options).classes))  # before minutes of rendering
    return RoomsDataset(render_rooms(config), _ids(config), options)


def render_rooms(config: DataConfig, parent: Path | None = None) -> Path:
    """Render the scenes of ``config`` that are missing or damaged, on all cores, and return the dataset's folder.

    It lies in ``parent`` or the cache's ``rooms`` and has a PNG per scene and sensor, split lists, ``dataset.toml`` and
    ``factors.csv``. An interrupted call keeps finished scenes; larger counts extend smaller ones.

    Raises:
        OSError: the folder cannot be written or the disk is full; names ``CRODINO_CACHE``.
    """
    width, height = parse_size("256x192" if config.size == "native" else config.size)
    name = f"v{RENDERER_VERSION}-mitsuba{version('mitsuba')}-seed{config.scene_seed}-{width}x{height}"
    folder, ids = (parent or cache_dir() / "rooms") / name, [i for split in _ids(config).values() for i in split]
    if (folder / SPEC.name).exists() and not _missing(folder, ids):
        return folder
    with file_lock(folder):
        if missing := _missing(folder, ids):  # another process may have rendered them meanwhile
            _render_all(folder, config.scene_seed, (width, height), missing)
        for split in SPLITS:
            with atomic_write(folder / f"{split}.txt") as path:
                finished = sorted(i for i in _rendered(folder).index if i.rpartition("-")[0] == split)
                path.write_text("\n".join([*finished, ""]))
        with atomic_write(folder / SPEC.name) as path:
            path.write_text(SPEC.read_text())
    return folder


def _ids(config: DataConfig) -> dict[str, list[str]]:
    """Return each split's ids; the all-night test has half as many scenes as the test."""
    counts = (*config.scenes, max(config.scenes[2] // 2, 1))
    return {split: [f"{split}-{i:05d}" for i in range(n)] for split, n in zip(SPLITS, counts, strict=True)}


def _rendered(folder: Path) -> pd.DataFrame:
    """Return factors and bytes of the rendered scenes by id; an empty table where ``factors.csv`` cannot be used."""
    try:  # floats are read by Python, to the last bit
        return pd.read_csv(folder / "factors.csv", dtype=str).set_index("id")[COLUMNS].dropna().astype(float)
    except (FileNotFoundError, ValueError, KeyError):
        return pd.DataFrame(index=pd.Index([], name="id", dtype=str), columns=COLUMNS, dtype=float)


def _missing(folder: Path, ids: list[str]) -> list[str]:
    """Return those of ``ids`` that are not rendered or whose files have not the size they were written with."""
    written = _rendered(folder)["bytes"].to_dict()
    return [scene_id for scene_id in ids if written.get(scene_id, 0) != _bytes(folder, scene_id)]


def _bytes(folder: Path, scene_id: str) -> int:
    files = [folder / name / f"{scene_id}.png" for name in PICTURES]
    return sum(file.stat().st_size for file in files) if all(file.exists() for file in files) else -1


def _render_all(folder: Path, seed: int, size: tuple[int, int], ids: list[str]) -> None:
    table = _rendered(folder)
    with atomic_write(folder / "factors.csv") as path:
        table[~table.index.isin(ids)].to_csv(path)
    workers = max(1, min(cpu_count(), len(ids) // SCENES_PER_PROCESS))
    rows = Parallel(workers, return_as="generator_unordered")(delayed(_render)(folder, seed, size, i) for i in ids)
    start, shown = time.perf_counter(), bar(rows, total=len(ids), label="rendering rooms", unit="scene")
    with (folder / "factors.csv").open("a") as file:
        for done, row in enumerate(shown, start=1):
            print(row, file=file, flush=True)
            if headless() and done * 10 // len(ids) > (done - 1) * 10 // len(ids):
                rate = done / (time.perf_counter() - start)
                say(f"rendering rooms: {done} of {len(ids)} scenes, {rate:.1f} scenes/s, into {folder}")


def _render(folder: Path, seed: int, size: tuple[int, int], scene_id: str) -> str:
    """Render one scene into its files and return its row of ``factors.csv``."""
    split, _, index = scene_id.rpartition("-")
    scene = grammar.compose(seed, split, int(index))
    rng = np.random.default_rng([seed, SPLITS.index(split), int(index), 1])
    view = render.render(scene, *size, int(rng.integers(2**30)))
    cameras = (sensors.photograph, sensors.measure_depth, sensors.measure_heat)
    pictures = [camera(view, scene, rng) for camera in cameras] + [view.label, view.site]
    for name, pixels in zip(PICTURES, pictures, strict=True):
        with atomic_write(folder / name / f"{scene_id}.png") as path:
            Image.fromarray(pixels).save(path)
    values = (*scene.factors.values(), _bytes(folder, scene_id))
    return ",".join([scene_id, *(str(float(value)) for value in values)])
