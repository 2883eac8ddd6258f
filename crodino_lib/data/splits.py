"""Split lists on disk, and a validation split where a dataset has none."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from crodino_lib.config import nearest
from crodino_lib.data.pictures import SUFFIXES, Pictures


def read_list(path: Path, rgb: Pictures) -> list[str]:
    """Scene ids that a list file names.

    Raises:
        FileNotFoundError: it does not exist; proposes another list beside it.
        ValueError: it is not text, names no scene, or one twice.
    """
    if not path.is_file():
        there = sorted(other.name for other in path.parent.glob("*.txt"))
        raise FileNotFoundError(
            f"the split list {path} does not exist; beside it: {', '.join(there[:10]) or 'no .txt file'}."
            f"{nearest(path.name, there)}"
        )
    try:
        ids = scene_ids(path.read_text(encoding="utf-8"), rgb)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    if not ids:
        raise ValueError(f"{path} names no scene; expected one id per line, such as 0001")
    if twice := [scene_id for scene_id, count in Counter(ids).items() if count > 1]:
        raise ValueError(f"{path} names {len(twice)} scene(s) more than once: {', '.join(twice[:5])}")
    return ids


def scene_ids(text: str, rgb: Pictures) -> list[str]:
    """Scene ids in a split list: bare stems, ``RGB/0001.jpg``, or two columns of which the first counts.

    A byte-order mark, carriage returns, blank lines and lines that start with # are passed over; sub-folders stay.
    """
    folder = rgb.dir.strip("/") + "/"
    ids = []
    for line in text.removeprefix("\ufeff").splitlines():
        columns = line.split()
        if not columns or columns[0].startswith("#"):
            continue
        name = columns[0].removeprefix("./")
        if name.lower().startswith(folder.lower()):
            name = name[len(folder) :]
        ending = next((end for end in (*rgb.endings, *SUFFIXES) if name.lower().endswith(end)), "")
        ids.append(name[: len(name) - len(ending)])
    return ids


def consecutive_runs(ids: list[str]) -> list[list[str]]:
    """``ids`` in runs whose last number counts up by one; an id without a number is a run of its own."""
    keyed = []
    for scene_id in ids:
        before, number, after = re.fullmatch(r"(.*?)(\d*)(\D*)", scene_id).groups()
        keyed.append((before, after, int(number or 0), scene_id))
    runs: list[list[str]] = []
    due = None
    for before, after, number, scene_id in sorted(keyed):
        if (before, after, number) != due:
            runs.append([])
        runs[-1].append(scene_id)
        due = (before, after, number + 1)
    return runs


def hold_out(ids: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """Split ``ids`` into train and val so that neighbouring frames, which show one scene, are never on both sides.

    Whole runs of consecutive ids go to val in a fixed random order while they fit; always the same for the same ids.

    Returns:
        Both parts in the order of ``ids``; val has between half of ``fraction`` and all of it.

    Raises:
        ValueError: no such part can be made.
    """
    runs, wanted, held = consecutive_runs(ids), round(fraction * len(ids)), set()
    for index in np.random.default_rng(0).permutation(len(runs)):
        if len(held) + len(runs[index]) <= wanted:
            held.update(runs[index])
    if len(held) <= wanted / 2:
        raise ValueError(
            f"there is no list for val, and of the {len(ids)} scenes of train no {wanted} can be held out in whole "
            f"runs of consecutive ids ({len(runs)} runs, the longest of {max(map(len, runs))}), as neighbours show one "
            "scene; write a list for val and name it under splits"
        )
    return [scene_id for scene_id in ids if scene_id not in held], [scene_id for scene_id in ids if scene_id in held]
