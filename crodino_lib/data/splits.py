"""Assign scenes to splits: by lists, by sub-folders, or drawn in groups of scenes that may show one place."""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from crodino_lib.data.decode import SUFFIXES, readable
from crodino_lib.data.image_files import ImageFiles, existing
from crodino_lib.data.layouts import LayoutError, warn

PAUSE_S = 10  # time stamps further apart begin another recording, unless that is their usual step
STEPS = 1.5  # last numbers further apart, in their usual steps, begin another run
# a date, or seconds since 1970
STAMP = re.compile(r"(.*?)(?<!\d)((?:19|20)\d\d(?:[-_.:T ]?\d\d){5}|1\d{9})[-_.]?(\d{0,9})(\D*)")
BY_NAME = "all names that are equal up to their last number"
BY_RUN = "a run of names whose last numbers or time stamps follow each other"


def read_list(path: Path, files: ImageFiles, there: Container[str] = ()) -> list[str]:
    """Return the scene ids of a list file; an error where it is absent, not text, empty, or names a scene twice."""
    with readable(existing(path, "split list", "*.txt")):
        ids = scene_ids(path.read_text(encoding="utf-8"), files, there)
    if not ids:
        raise ValueError(f"{path} names no scene; expected one id per line, such as 0001")
    if twice := [scene_id for scene_id, count in Counter(ids).items() if count > 1]:
        few = ", ".join(twice[:5])
        raise ValueError(f"{path} names {len(twice)} scene(s) more than once: {few}; an id ends at the first space")
    return ids


def scene_ids(text: str, files: ImageFiles, there: Container[str] = ()) -> list[str]:
    """Return the scene ids of a split list: bare stems, ``RGB/0001.jpg``, or columns of which the first counts.

    A byte-order mark, carriage returns, blank lines and lines that start with # are passed over; sub-folders stay. A
    line that as a whole names one of the scenes that are ``there``, spaces and all, is that scene.
    """
    folder, ids = files.dir.strip("/").lower() + "/", []
    for line in text.removeprefix("\ufeff").replace("\\", "/").splitlines():
        columns, whole = line.split(), (files.stem(line.strip(), *SUFFIXES) or line.strip()).removeprefix("./")
        whole = whole[len(folder) :] if whole.lower().startswith(folder) else whole
        fits = re.fullmatch(files.pattern, whole)  # the name of a file, of which the id is a part
        if found := [name for name in (whole, "/".join(fits.groups("")) if fits else whole) if name in there]:
            ids.append(found[0])
            continue
        if not columns or columns[0].startswith("#"):
            continue
        name, *others = [files.stem(column, *SUFFIXES) or column for column in columns]
        name = name.removeprefix("./")
        ids.append(name[len(folder) :] if name.lower().startswith(folder) else name)
        if len({other.split("/")[-1] for other in (name, *others) if "/" in other}) > 1:
            raise ValueError(f"a line of the list names two scenes: {line.strip()!r}")
    return ids


def consecutive_runs(ids: list[str]) -> list[list[str]]:
    """Group ids whose last numbers or time stamps follow each other in usual steps; others stand alone."""
    key = ["before", "after", "timed"]
    places = pd.DataFrame([(*_position(scene_id), scene_id) for scene_id in ids], columns=[*key, "number", "id"])
    runs: list[list[str]] = []
    for (_, _, timed), series in places.sort_values(["number", "id"]).groupby(key):
        steps = series["number"].diff()
        usual = steps.quantile(0.1, interpolation="lower")  # a low one: frames may be missing
        begins = ~(steps <= max(STEPS * usual, PAUSE_S * timed))  # the first, whose step is NaN, does too
        runs += series["id"].groupby(begins.cumsum()).agg(list).tolist()
    return runs


def _position(scene_id: str) -> tuple[str, str, bool, float]:
    """Return what an id holds before and after its time stamp or last number, which of both it is, and its value."""
    if stamp := STAMP.fullmatch(scene_id):
        before, digits, fraction, after = stamp.groups()
        digits = re.sub(r"\D", "", digits)
        try:
            date = datetime.strptime(f"{digits}+0000", "%Y%m%d%H%M%S%z").timestamp() if len(digits) == 14 else digits
            return before, after, True, float(date) + float(f"0.{fraction}0")
        except ValueError:  # digits that are no date
            pass
    before, number, after = re.fullmatch(r"(.*?)(\d*)(\D*)", scene_id).groups()
    return before, after, False, float(number or 0)


def hold_out(
    ids: list[str], fraction: float, split: str = "val", longest: int | None = None
) -> tuple[list[str], list[str]]:
    """Draw ``split`` from ``ids`` in whole groups that may show one place, always the same for the same ids.

    Groups are names that are equal up to their last number; where these are too large, runs of numbers or time stamps.
    Runs of more than ``longest`` are cut; scenes are then neighbours at the cuts.

    Returns the rest and the part that was drawn, in order; the part has between half of ``fraction`` and all of it, and
    ValueError says what was taken for a group where there is no such part.
    """
    runs, names = consecutive_runs(ids), defaultdict(list)
    for run in runs:
        before, _, timed, number = _position(run[0])
        names[before, number * timed].extend(run)
    candidates = {BY_NAME: list(names.values()), BY_RUN: runs}
    if longest:
        candidates = {BY_RUN: [run[at : at + longest] for run in runs for at in range(0, len(run), longest)]}
    wanted = max(1, round(fraction * len(ids)))
    for what, groups in candidates.items():
        drawn: set[str] = set()
        for index in np.random.default_rng(0).permutation(len(groups)) if len(groups) > 1 else ():
            if len(drawn) + len(groups[index]) <= wanted:
                drawn.update(groups[index])
        largest = max(groups, key=len)
        told = f"A group is {what}; there are {len(groups)}, of up to {len(largest)}: {largest[0]} to {largest[-1]}"
        if len(drawn) > wanted / 2:
            if split == "test":
                warn(f"no list or folder names the scenes of test: {len(drawn)} of {len(ids)} are drawn. {told}")
            return [name for name in ids if name not in drawn], [name for name in ids if name in drawn]
    why = f"they cannot be drawn: {wanted} of {len(ids)} are wanted, in whole groups that may show one place. {told}"
    raise ValueError(f"no list names the scenes of {split}, and {why}. Write a list for {split} and name it in splits")


def with_val(splits: Mapping[str, list[str]], fraction: float, longest: int | None = None) -> dict[str, list[str]]:
    """Return ``splits`` with a part of train as val, where they have none; ValueError where none can be drawn."""
    if "val" in splits:
        return dict(splits)
    train, val = hold_out(splits["train"], fraction, longest=longest)
    return {**splits, "train": train, "val": val}


def disjoint(splits: Mapping[str, list[str]], root: Path) -> dict[str, list[str]]:
    """Return ``splits``, train, val and test first; ValueError where one is empty, or train or val shares scenes."""
    if empty := [name for name in ("train", "val", "test") if not splits.get(name)]:
        raise ValueError(f"{root}: the split {' and '.join(empty)} has no scene")
    if len(splits["train"]) < 2:
        raise ValueError(f"{root}: the split train has one scene, {splits['train'][0]}; training needs two at least")
    for one, other in combinations(splits, 2):
        common = sorted(set(splits[one]) & set(splits[other]))
        if common and {one, other} & {"train", "val"}:
            what = f"{len(common)} scene(s) are in both {one} and {other}, such as {', '.join(common[:5])}"
            raise ValueError(f"{root}: {what}. Remove them from one; without a list for val, it is taken from train")
    return {split: splits[split] for split in dict.fromkeys(("train", "val", "test", *splits))}


def complete_scenes(found: Mapping[str, Iterable[str]], root: Path) -> list[str]:
    """Return the ids, sorted, for which every entry of a sample has a file; warn of others, raise where none has."""
    everywhere = set().union(*found.values())
    complete = sorted(everywhere.intersection(*found.values()))
    if not complete:
        counts = ", ".join(f"{len(ids)} of {name} ({min(ids, default='none')})" for name, ids in found.items())
        raise (ValueError if everywhere else LayoutError)(f"{root}: no scene has all its files; found {counts}")
    for name, ids in found.items():
        if lacking := sorted(everywhere.difference(ids)):
            warn(f"{root}: {len(lacking)} scene(s) are left out, as they have no {name}: {', '.join(lacking[:10])}")
    return complete


def splits_by_folder(ids: list[str]) -> dict[str, list[str]]:
    """Return splits by the first folder of an id, none where no folder is a split; ValueError where only some are."""
    groups: dict[str, list[str]] = defaultdict(list)
    for scene_id in ids:
        groups[scene_id.split("/")[0] if "/" in scene_id else "no folder"].append(scene_id)
    if not {"train", "val", "test"} & set(groups):
        return {}
    strange = [name for name in groups if name not in ("train", "val") and not name.startswith("test")]
    if {"train", "test"} - set(groups) or strange:
        expected = "expected the folders train and test, val and others named test..."
        raise ValueError(f"scenes lie in {', '.join(groups)}; {expected}")
    return dict(groups)
