"""Which scenes are trained on and which are measured: lists on disk, sub-folders, or whole runs of frames."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from crodino_lib.config import nearest
from crodino_lib.data.image_files import SUFFIXES, ImageFiles
from crodino_lib.data.layouts import LayoutError, warn


def read_list(path: Path, files: ImageFiles) -> list[str]:
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
        ids = scene_ids(path.read_text(encoding="utf-8"), files)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    if not ids:
        raise ValueError(f"{path} names no scene; expected one id per line, such as 0001")
    if twice := [scene_id for scene_id, count in Counter(ids).items() if count > 1]:
        raise ValueError(f"{path} names {len(twice)} scene(s) more than once: {', '.join(twice[:5])}")
    return ids


def scene_ids(text: str, files: ImageFiles) -> list[str]:
    """Scene ids in a split list: bare stems, ``RGB/0001.jpg``, or two columns of which the first counts.

    A byte-order mark, carriage returns, blank lines and lines that start with # are passed over; sub-folders stay.
    """
    folder = files.dir.strip("/") + "/"
    ids = []
    for line in text.removeprefix("\ufeff").splitlines():
        columns = line.split()
        if not columns or columns[0].startswith("#"):
            continue
        name = columns[0].removeprefix("./")
        if name.lower().startswith(folder.lower()):
            name = name[len(folder) :]
        ids.append(_without_ending(name, files))
        stems = {_without_ending(column, files).split("/")[-1] for column in columns if "/" in column}
        if len(stems) > 1:
            raise ValueError(f"a line of the list names two scenes: {line.strip()!r}")
    return ids


def _without_ending(name: str, files: ImageFiles) -> str:
    ending = next((end for end in (*files.endings, *SUFFIXES) if name.lower().endswith(end)), "")
    return name[: len(name) - len(ending)]


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


def hold_out(
    ids: list[str], fraction: float, split: str = "val", longest: int | None = None
) -> tuple[list[str], list[str]]:
    """Split ``ids`` into train and ``split`` so that neighbouring frames, which show one scene, are never apart.

    Whole runs of consecutive ids go to ``split`` in a fixed random order while they fit: always the same for the same
    ids. Runs of more than ``longest`` are cut first; neighbours are then apart at the cuts.

    Returns:
        Both parts in the order of ``ids``; the second has between half of ``fraction`` and all of it.

    Raises:
        ValueError: no such part can be made.
    """
    runs, wanted, held = consecutive_runs(ids), round(fraction * len(ids)), set()
    if longest:
        runs = [run[start : start + longest] for run in runs for start in range(0, len(run), longest)]
    for index in np.random.default_rng(0).permutation(len(runs)):
        if len(held) + len(runs[index]) <= wanted:
            held.update(runs[index])
    if len(held) <= wanted / 2:
        raise ValueError(
            f"there is no list for {split}, and of the {len(ids)} scenes no {wanted} can be held out in whole "
            f"runs of consecutive ids ({len(runs)} runs, the longest of {max(map(len, runs))}), as neighbours show one "
            f"scene; write a list for {split} and name it under splits"
        )
    return [scene_id for scene_id in ids if scene_id not in held], [scene_id for scene_id in ids if scene_id in held]


def with_val(splits: Mapping[str, list[str]], fraction: float, longest: int | None = None) -> dict[str, list[str]]:
    """``splits`` with a part of train as val, where they have none.

    Raises:
        ValueError: train and test share scenes, or no such part can be made.
    """
    if "val" in splits:
        return dict(splits)
    if "test" in splits:
        refuse_common(splits, "train", "test")
    train, val = hold_out(splits["train"], fraction, longest=longest)
    return {**splits, "train": train, "val": val}


def refuse_common(splits: Mapping[str, list[str]], one: str, other: str, where: str = "") -> None:
    """Raise where two splits share scenes.

    Raises:
        ValueError: they do; names some.
    """
    if common := sorted(set(splits[one]) & set(splits[other])):
        raise ValueError(
            f"{where}{len(common)} scene(s) are in both {one} and {other}, such as {', '.join(common[:5])}; scores on "
            "scenes that were trained or selected on mean nothing. Where there is no list for val, leave it out: it is "
            "then taken from train"
        )


def disjoint(splits: Mapping[str, list[str]], root: Path) -> dict[str, list[str]]:
    """``splits``, train, val and test first.

    Raises:
        ValueError: one of the three is empty, or train or val shares scenes with another.
    """
    if empty := [name for name in ("train", "val", "test") if not splits.get(name)]:
        raise ValueError(f"{root}: the split {' and '.join(empty)} has no scene")
    for one, other in combinations(splits, 2):
        if {one, other} & {"train", "val"}:
            refuse_common(splits, one, other, f"{root}: ")
    return {split: splits[split] for split in dict.fromkeys(("train", "val", "test", *splits))}


def complete_scenes(found: Mapping[str, set[str]], root: Path) -> list[str]:
    """Ids that every entry of a sample has a file for, sorted; a warning names those that lack one.

    Raises:
        LayoutError: there is no picture at all.
        ValueError: no scene is complete.
    """
    if not any(found.values()):
        raise LayoutError(f"{root} holds no picture where {', '.join(found)} are expected")
    complete = sorted(set.intersection(*found.values()))
    counts = ", ".join(f"{len(ids)} of {name}" for name, ids in found.items())
    if not complete:
        examples = ", ".join(f"{name}: {min(ids)}" for name, ids in found.items() if ids)
        raise ValueError(f"{root}: no scene has all its files; found {counts} ({examples})")
    for name, ids in found.items():
        if lacking := sorted(set.union(*found.values()) - ids):
            warn(f"{root}: {len(lacking)} scene(s) are left out, as they have no {name}: {', '.join(lacking[:10])}")
    return complete


def splits_by_folder(ids: list[str]) -> dict[str, list[str]]:
    """Splits by the first folder of an id, where a folder ``train`` or ``test`` is there; else none.

    Raises:
        ValueError: there is one of the two without the other, or a folder beside them that is no split.
    """
    groups: dict[str, list[str]] = {}
    for scene_id in ids:
        groups.setdefault(scene_id.split("/")[0] if "/" in scene_id else "", []).append(scene_id)
    if not {"train", "val", "test"} & set(groups):
        return {}
    strange = [name for name in groups if name not in ("train", "val") and not name.startswith("test")]
    if {"train", "test"} - set(groups) or strange:
        found = ", ".join(name or "no folder" for name in groups)
        raise ValueError(f"scenes lie in {found}; expected the folders train and test, val and others named test...")
    names = {split: {scene_id.split("/", 1)[1] for scene_id in ids} for split, ids in groups.items()}
    for one, other in combinations(names, 2):
        if common := sorted(names[one] & names[other]):
            warn(
                f"{len(common)} name(s) occur in the folders {one} and {other} both, such as {', '.join(common[:5])}: "
                "if they are the same scenes, scores mean nothing"
            )
    return groups


def splits_by_scene(ids: list[str], fraction: float) -> dict[str, list[str]]:
    """Train and test in whole runs of consecutive ids, always the same for the same ids; a warning says so."""
    train, test = hold_out(ids, fraction, "test")
    warn(
        f"no list and no folder says which scenes train and which test: {len(test)} of {len(ids)} are drawn for test, "
        "in whole runs of consecutive names"
    )
    return {"train": train, "test": test}
