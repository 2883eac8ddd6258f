"""Write a first ``dataset.toml`` for a folder from what lies in it: `crodino inspect FOLDER --draft`."""

import os
import re
from pathlib import Path

import numpy as np

from crodino_lib.data.decode import SUFFIXES, decode
from crodino_lib.data.sample import IGNORE
from crodino_lib.io import atomic_write

READ = 32  # files of a folder that are looked at
MOST_IDS = 64  # different values in a folder of labels
ROLES = {  # what the name of a folder says of it
    "label": r"label|mask|annot|(^|[_-])gt|seg|class",
    "depth": r"depth|disp|dsm|height|range|lidar",
    "thermal": r"therm|(^|[_-])(t?ir|lwir|nir)|infra",
    "rgb": r"rgb|colou?r|image|visible|left|(^|[_-])(vis|eo)",
}
UNITS = {"depth": "m", "thermal": "counts"}


def write_draft(root: Path) -> Path:
    """Write ``dataset.toml`` into a folder, with a comment at each guess, and return its path.

    ValueError where there is one already, or no two folders of pictures and one of labels are found.
    """
    path = root / "dataset.toml"
    if path.exists():
        raise ValueError(f"{path} exists already; move it away to have another drafted")
    text = draft(root)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def draft(root: Path) -> str:
    """Return the text of a ``dataset.toml`` for a folder; see ``write_draft``."""
    folders = {name: files for name, files in picture_folders(root).items() if len(files) > 1}
    looks = {name: look(files) for name, files in folders.items()}
    roles = {name: role_of(name, arrays) for name, arrays in looks.items()}
    labels = [name for name, role in roles.items() if role == "label"]
    colour = next((name for name, role in roles.items() if role == "rgb"), None)
    others = [name for name in looks if name not in (*labels, colour)]
    if not labels or len(others) + (colour is not None) < 2:
        found = ", ".join(f"{name} ({roles[name]})" for name in looks) or "none"
        raise ValueError(f"{root}: no draft: expected a folder of labels and two of pictures or more, found {found}")
    own = re.sub(r"[^\w.-]", "-", root.resolve().name).lstrip("-.") or "mine"
    lines = [f"name = '{own}'", *label_lines(labels[0], looks[labels[0]])]
    lines += [f"rgb = {{ dir = '{colour}' }}"] if colour else []
    lists = {part: found[0] for part in ("train", "val", "test") if (found := sorted(root.glob(f"**/{part}.txt")))}
    if {"train", "test"} <= set(lists):
        listed = ", ".join(f"{part} = '{path.relative_to(root).as_posix()}'" for part, path in lists.items())
        lines.append(f"splits = {{ {listed} }}")
    else:
        lines.append("# no lists train.txt and test.txt were found: splits are sub-folders, or else drawn")
    taken: set[str] = set()
    for folder in others:
        role = roles[folder]
        name = role if role in UNITS and role not in taken else sensor_name(folder)
        taken.add(name)
        lines += sensor_lines(name, folder, role, looks[folder])
    return "\n".join(["# A draft, from what lies here. Check every line that says guess.", *lines]) + "\n"


def picture_folders(root: Path) -> dict[str, list[Path]]:
    """Return first folder below the root -> its pictures, sub-folders included, sorted."""
    found: dict[str, list[Path]] = {}
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(root).parts
        files = [Path(parent, n) for n in names if n.lower().endswith(SUFFIXES) and not n.startswith((".", "~"))]
        if files and below:
            found.setdefault(below[0], []).extend(files)
    return {name: sorted(files) for name, files in sorted(found.items())}


def look(files: list[Path]) -> list[np.ndarray]:
    """Return the pixels of some files, evenly spread over all."""
    return [decode(path) for path in files[:: max(1, len(files) // READ)][:READ]]


def role_of(folder: str, arrays: list[np.ndarray]) -> str:
    """Guess what a folder holds, from its name, and else from its pixels."""
    named = next((role for role, words in ROLES.items() if re.search(words, folder.lower())), "")
    colour = arrays[0].ndim == 3 and arrays[0].shape[2] >= 3 and arrays[0].dtype == np.uint8
    if named and (named != "rgb" or colour):
        return named
    few = arrays[0].ndim == 2 and arrays[0].dtype.kind in "iu" and len(set().union(*map(_values, arrays))) <= MOST_IDS
    return "rgb" if colour else "label" if few else "sensor"


def label_lines(folder: str, arrays: list[np.ndarray]) -> list[str]:
    """Return the lines about classes and labels."""
    if arrays[0].ndim == 3:
        seen = sorted(
            {
                f"#{bytes(colour[:3]).hex()}"
                for array in arrays
                for colour in np.unique(array.reshape(-1, array.shape[2]), axis=0)
            }
        )
        table = ", ".join(f"'{colour}' = {index}" for index, colour in enumerate(seen))
        names, rest = [f"colour {colour}" for colour in seen], f", colours = {{ {table} }}"
    else:
        seen = sorted(set().union(*map(_values, arrays)))
        ids = [value for value in seen if value not in (IGNORE, -1)]
        names = [f"id {value}" for value in ids]
        wanted = ids != list(range(len(ids)))
        rest = f", map = {{ {', '.join(f'{value} = {k}' for k, value in enumerate(ids))} }}" if wanted else ""
        rest += f", ignore = [{', '.join(str(value) for value in seen if value in (IGNORE, -1))}]"
    listed = ", ".join(f"'{name}'" for name in names)
    return [
        f"classes = [{listed}]  # guess: in the order of what the labels hold",
        f"label = {{ dir = '{folder}'{rest} }}",
    ]


def sensor_name(folder: str) -> str:
    """Return a name that a sensor can have."""
    name = re.sub(r"[^A-Za-z0-9]", "_", folder)
    return name if re.match("[A-Za-z]", name) else f"sensor_{name}"


def sensor_lines(name: str, folder: str, role: str, arrays: list[np.ndarray]) -> list[str]:
    """Return the table of one sensor."""
    colour = arrays[0].ndim == 3 and arrays[0].shape[2] == 3
    kind = "rgb" if colour else {"uint8": "u8", "uint16": "u16", "int16": "i16"}.get(arrays[0].dtype.name, "float")
    millimetres = role == "depth" and kind == "u16"
    scale = 0.001 if millimetres else 1.0
    raw = np.concatenate([array.reshape(-1, 3 if colour else 1) for array in arrays]).astype(np.float64)
    known = np.isfinite(raw).all(axis=1) & ((raw != 0).all(axis=1) | (role != "depth"))
    values = scale * raw[known]
    mean, std = ([round(float(x), 4) for x in statistic(values, axis=0)] for statistic in (np.mean, np.std))
    return [
        f"\n[sensors.{name}]",
        f"dir = '{folder}'",
        f"kind = '{kind}'",
        f"unit = '{UNITS.get(role, '0..255' if kind in ('u8', 'rgb') else 'counts')}'  # guess",
        f"invalid = [{'0' if role == 'depth' else ''}]  # guess: values, as stored, that are no measurement",
        f"scale = {scale}" + "  # guess: files hold millimetres" * millimetres,
        f"mean = {mean}  # measured on {len(arrays)} files",
        f"std = {std}",
    ]


def _values(array: np.ndarray) -> set[int]:
    return set(np.unique(array).tolist()) if array.dtype.kind in "iu" else set(range(MOST_IDS + 1))
