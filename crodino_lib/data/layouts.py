"""Find where the files of a published dataset lie, in any of the layouts that copies of it have."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crodino_lib.config import DataConfig
from crodino_lib.data.image_files import existing

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z", ".bz2", ".xz")


class DataWarning(UserWarning):
    """Something about a copy that a reader of its numbers should know."""


class LayoutError(FileNotFoundError):
    """A folder is not in the layout of a dataset: it is something else, or a part of it is missing."""


def warn(message: str) -> None:
    """Warn of something about a copy that does not stop anybody from using it."""
    warnings.warn(message, DataWarning, stacklevel=3)


def show_plainly() -> None:
    """Print warnings about data as sentences, not as places in our code."""
    usual = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
        return f"note: {message}\n" if issubclass(category, DataWarning) else usual(message, category, *place, **line)

    warnings.formatwarning = plain


def existing_root(config: DataConfig) -> Path:
    """Return the folder of the user's copy; an error where it is an archive, or does not exist."""
    root = Path(config.root).expanduser().resolve()
    if root.suffix.lower() in ARCHIVES and root.is_file():
        raise ValueError(f"root {root} is an archive; unpack it and give the folder it becomes")
    return existing(root)


def choose_layout(root: Path, layouts: Mapping[str, Iterable[str]], what: str) -> tuple[Path, str]:
    """Return ``root`` or the first folder up to two levels below it in one of ``layouts``, and the layout's name.

    ``layouts`` are name -> folders. LayoutError where none fits lists the folders of each.
    """
    below = [path for depth in ("*/", "*/*/") for path in sorted(root.glob(depth))]
    for name, folders in layouts.items():
        for candidate in (root, *below):
            if all((candidate / folder).is_dir() for folder in folders):
                return candidate, name
    there = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    archives = [name for name in there if name.lower().endswith(ARCHIVES)]
    hint = f". Unpack {', '.join(archives[:5])} first" if archives else ""
    expected = " or ".join(f"{', '.join(sorted(set(folders)))} ({name})" for name, folders in layouts.items())
    held = ", ".join(there[:10]) or "nothing"
    raise LayoutError(f"{root} is not {what}: it holds {held}, expected the folders {expected}{hint}")


def expect_counts(splits: Mapping[str, list[str]], published: Mapping[str, int], what: str) -> None:
    """Warn where splits have other sizes than the published ones: results are then not comparable."""
    counts = {name: (len(splits.get(name, ())), count) for name, count in published.items()}
    if found := ", ".join(f"{name} {n} (published {count})" for name, (n, count) in counts.items() if n != count):
        warn(f"this copy of {what} has other numbers of scenes: {found}; results do not compare with published ones")
