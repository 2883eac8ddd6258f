"""Read a folder of your own: pictures of every sensor, labels and split lists; see ``folder_spec``."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from crodino_lib.config import DataConfig
from crodino_lib.data.checks import fill_values
from crodino_lib.data.decode import SUFFIXES, open_picture
from crodino_lib.data.folder_spec import PRESETS, FolderOptions, FolderSpec, read_spec
from crodino_lib.data.image_files import SensorFiles, digest, read_label, read_picture, read_sensor
from crodino_lib.data.layouts import choose_layout, existing_root, warn
from crodino_lib.data.sample import IGNORE, RGB, DatasetCard, Sample, SceneDataset, Sensor
from crodino_lib.data.splits import complete_scenes, disjoint, hold_out, read_list, splits_by_folder, with_val
from crodino_lib.settings import choose

OFFSET_LABELS = 32  # labels that are read to confirm an offset
LOW_U16, HIGH_U16 = 1 << 14, 3 << 14  # between them lies nothing where numbers with a sign are read without it


def open_folder(config: DataConfig) -> SceneDataset:
    """Open the folder ``config.root`` as its ``dataset.toml`` states, or as the preset that its options name.

    FileNotFoundError where a folder or file is missing; ValueError where ``dataset.toml``, a list or a split is wrong.
    """
    root, preset = existing_root(config), FolderOptions(**config.options).preset
    if preset:
        spec = FolderSpec.parse(PRESETS[choose(preset, PRESETS, "preset")], f"preset {preset}")
        root, _ = choose_layout(root, {preset: [files.dir for files in spec.pictures.values()]}, f"preset {preset}")
    else:
        spec = read_spec(root / "dataset.toml")
    dataset = FolderDataset(spec, root, splits_of(spec, root))
    dataset.check_copies()
    dataset.check_offset()
    return dataset


def own_names(config: DataConfig) -> tuple[str, list[str]]:
    """Return the name of the dataset in a folder, and those of its sensors; errors as ``open_folder``."""
    preset = FolderOptions(**config.options).preset
    known = FolderSpec.parse(PRESETS[choose(preset, PRESETS, "preset")], f"preset {preset}") if preset else None
    spec = known or read_spec(existing_root(config) / "dataset.toml")
    return spec.name, [name for name in spec.pictures if name != "label"]


def splits_of(spec: FolderSpec, root: Path) -> dict[str, list[str]]:
    """Return split -> scene ids: from the lists that ``spec`` names; else from sub-folders; else drawn.

    Without lists the scenes are those with a file of every kind. Errors name what is wrong or why none can be drawn.
    """
    if spec.splits:
        first = next(iter(spec.pictures.values()))
        there = first.index(root)
        splits = {split: read_list(root / name, first, there) for split, name in spec.splits.items()}
    else:
        ids = complete_scenes({name: files.index(root) for name, files in spec.pictures.items()}, root)
        drawn = ("train", "test")
        splits = splits_by_folder(ids) or dict(zip(drawn, hold_out(ids, spec.test_fraction, "test"), strict=True))
    return with_val(splits, spec.val_fraction, spec.val_run)


class FolderDataset(SceneDataset):
    """A dataset with one file per scene and sensor: ``spec`` is what the files mean, ``root`` the folder they lie in.

    FileNotFoundError counts all missing files; ValueError where splits share scenes, an id fits two files, or a
    sensor's mean and std are not given.
    """

    def __init__(self, spec: FolderSpec, root: Path, splits: Mapping[str, list[str]]):
        self.spec, self.root = spec, root
        self.splits = disjoint(splits, root)
        self._files = self._find_files()
        self._classes, self._colours = spec.label.classes(len(spec.classes)), {}
        sensors = {"rgb": RGB} if spec.rgb else {}
        self.card = DatasetCard(
            title=spec.title or spec.name,
            sensors=sensors | {name: self._sensor(name, files) for name, files in spec.sensors.items()},
            palette=tuple(tuple(bytes.fromhex(colour[1:])) for colour in spec.palette),
            splits=tuple(self.splits),
            native_size=self._read_label(self._files[self.splits["train"][0]]["label"]).shape[::-1],
            **spec.model_dump(include={"name", "classes", "homepage", "citation", "notes", "licensed"}),
        )

    def read(self, scene_id: str) -> Sample:
        """Read one scene; see ``SceneDataset.read``."""
        files = self.entry(self._files, scene_id)
        sample: Sample = {"id": scene_id}
        if self.spec.rgb:
            sample["rgb"] = read_picture(files["rgb"], "rgb", self.spec.rgb.bands).pixels
        for name, sensor in self.spec.sensors.items():
            sample[name], sample[f"{name}_valid"] = read_sensor(files[name], sensor)
        sample["label"] = self._read_label(files["label"])
        first, *others = files
        for name in others:
            if sample[name].shape[-2:] != sample[first].shape[-2:]:
                found = " but ".join(f"{files[entry]} has {_size(files[entry])}" for entry in (name, first))
                raise ValueError(f"{found}; all pictures of a scene must be aligned and equally large")
        return sample

    def _read_label(self, path: Path) -> np.ndarray:
        return read_label(path, self.spec.label, self._classes, self._colours)

    def fingerprint(self) -> str:
        """Return a hash of the files and their meaning; the same wherever the copy lies."""
        total = hashlib.sha256(self.spec.model_dump_json().encode() + repr(self.splits).encode())
        for digests in self._digests.values():
            total.update(b"".join(digests.values()))
        return total.hexdigest()

    @cached_property
    def _digests(self) -> dict[str, dict[str, bytes]]:
        return {key: {name: digest(path) for name, path in files.items()} for key, files in self._files.items()}

    def check_copies(self) -> None:
        """Raise ValueError where two splits hold the same files and one was drawn; warn where both were given."""
        places: dict[tuple[bytes, ...], tuple[str, str]] = {}
        for split in ("train", "val", "test"):
            given = split in self.spec.splits or self.splits[split][0].startswith(f"{split}/")
            for scene_id in self.splits[split]:
                sensors = tuple(value for name, value in self._digests[scene_id].items() if name != "label")
                other, copied = places.setdefault(sensors, (split, scene_id))
                text = f"{self.root}: the scenes {copied} of {other} and {scene_id} of {split} are equal files"
                if other != split and not given:
                    raise ValueError(f"{text}, which no drawn split may part; remove one, or write split lists")
                if other != split:
                    warn(f"{text}; a score on what was trained on means nothing")

    def check_offset(self) -> None:
        """Raise ValueError where ``offset = -1`` seems to shift labels that start at 0 already."""
        label, train, last = self.spec.label, self.splits["train"], len(self.spec.classes)
        if not label.offset or 0 in label.ignore:  # else it is confirmed that 0 is ignored
            return
        seen: set[int] = set()
        for scene_id in train[:: max(1, len(train) // OFFSET_LABELS)]:
            seen.update(np.unique(self._read_label(self._files[scene_id]["label"])).tolist())
            if last - 1 in seen:
                return
        if IGNORE in seen and len(seen) > 1:
            effect = f"offset = -1 ignores id 0 and makes id {last} the class {self.spec.classes[-1]!r}"
            found = f"but labels of train hold 0 and never {last} (at most {OFFSET_LABELS} were read)"
            hint = f"If 0 is {self.spec.classes[0]!r}, remove offset; if it has no class, confirm it with ignore = [0]"
            raise ValueError(f"{self.root}: {effect}, {found}. {hint}")

    def _find_files(self) -> dict[str, dict[str, Path]]:
        """Return scene id -> entry of a sample -> file, for all splits."""
        found: dict[str, dict[str, Path]] = {scene_id: {} for split in self.splits.values() for scene_id in split}
        missing = []
        for name, files in self.spec.pictures.items():
            if not (there := files.index(self.root)):
                endings = ", ".join(sorted({path.suffix for path in (self.root / files.dir).rglob("*.*")})) or "none"
                expected = f"expected {files.ext or ', '.join(SUFFIXES)}, in names that fit {files.pattern!r}"
                raise FileNotFoundError(f"{self.root / files.dir} has files of the endings {endings}; {expected}")
            example = next(iter(there.values()), f"{files.dir}/{files.pattern}")
            for scene_id, entries in found.items():
                if scene_id in there:
                    entries[name] = there[scene_id]
                elif files.pattern == "(.+)":
                    missing.append(f"{name} {files.dir}/{scene_id}{files.ext or '.*'}")
                else:
                    missing.append(f"{name} of {scene_id} (named as {example} is)")
        if missing:
            few = ", ".join(missing[:10]) + f" and {len(missing) - 10} more" * (len(missing) > 10)
            where = f"{self.root}: {len(missing)} file(s) of the {len(found)} scenes of its splits"
            raise FileNotFoundError(f"{where} are missing: {few}")
        return found

    def _sensor(self, name: str, files: SensorFiles) -> Sensor:
        if files.mean and files.std:
            return files.sensor
        train = self.splits["train"]
        read = [read_sensor(self._files[i][name], files) for i in train[:: max(1, len(train) // 64)]]
        values = np.concatenate([image[:, valid[0]] for image, valid in read], axis=1).astype(np.float64)
        check_raw(f"{self.spec.name}: sensor {name!r}", values, files)
        mean, std = (statistic(values, axis=1).round(4).tolist() for statistic in (np.mean, np.std))
        measured = f"measured on {len(read)} scenes of train: mean = {mean}, std = {std}"
        raise ValueError(f"{self.spec.name}: sensor {name!r} needs mean and std in {files.unit}; {measured}")


def check_raw(what: str, values: np.ndarray, files: SensorFiles) -> None:
    """Raise ValueError where values (C, N) of a sensor seem to hold a fill value, or signs read as large numbers."""
    if not values.size:
        raise ValueError(f"{what} has no valid pixel in the scenes of train that were read: is invalid right?")
    raw = (values - files.offset) / files.scale
    for value in fill_values(raw.ravel(), raw.min(), raw.max()):
        share = f"{(raw == value).mean():.1%} of its values are {value:g} as stored, far from all others"
        raise ValueError(f"{what}: {share}; add it to invalid; if it was measured, state mean and std")
    if files.kind == "u16" and (raw > HIGH_U16).any() and not ((raw > LOW_U16) & (raw <= HIGH_U16)).any():
        share = f"{(raw > HIGH_U16).mean():.1%} of its values are above {HIGH_U16}, and none from {LOW_U16} to there"
        raise ValueError(f"{what}: {share}: numbers with a sign? Set kind = 'i16'")


def _size(path: Path) -> str:
    """Return the size of a picture, and the orientation that was applied to it."""
    pixels, _, turn = open_picture(path)
    turned = f", turned by its EXIF orientation {turn}," if turn > 1 else ""
    return f"{pixels.shape[1]}x{pixels.shape[0]} pixels{turned}"
