"""Write files atomically, read them with clear errors, lock folders, and show progress."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

SPARE_BYTES = 1 << 20  # a disk with less is full
ELSEWHERE = "CRODINO_HOME holds results, CRODINO_CACHE rendered and decoded data"
REASONS = {errno.ENOSPC: "the disk is full", errno.EROFS: "the disk is read-only", errno.EACCES: "no permission"}


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` with its suffix; on success it becomes ``path``.

    Raises:
        OSError: the folder cannot be written or the disk is full; says which folder and how to choose another.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _explained(error, path) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes files private
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error
    except Exception as error:  # torch and safetensors have errors of their own for a full disk
        if shutil.disk_usage(path.parent).free > SPARE_BYTES:
            raise
        raise _explained(OSError(errno.ENOSPC, str(error)), path) from error
    finally:
        temporary.unlink(missing_ok=True)


def _explained(error: OSError, path: Path) -> OSError:
    if error.errno not in REASONS:
        return error
    return OSError(
        error.errno,
        f"cannot write {path.name} into {path.parent}: {REASONS[error.errno]}. Free some space or choose another "
        f"folder: {ELSEWHERE}. What was finished before is kept",
    )


def _damaged(path: Path, why: object) -> ValueError:
    return ValueError(f"{path} is damaged ({why}); delete it; it will be regenerated")


def read_json(path: Path) -> Any:
    """Read a JSON file of this project.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged; names it and what to do. The same holds for ``read_table`` and ``load_npz``.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise _damaged(path, error) from error


def read_table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Read a CSV file of this project that has ``columns``; raises what ``read_json`` does."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        raise _damaged(path, "its last line is cut")
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # of an empty file, or of one cut in a line
        raise _damaged(path, error) from error
    if missing := set(columns) - set(table):
        raise _damaged(path, f"it has no {', '.join(sorted(missing))}")
    return table


@contextlib.contextmanager
def load_npz(path: Path) -> Iterator[Any]:
    """Open an ``.npz`` file of this project; raises what ``read_json`` does."""
    try:
        file = np.load(path)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("a bare array, no archive of arrays")
        with file:
            yield file
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) or str(path) in str(error):
            raise
        raise _damaged(path, error) from error


@contextlib.contextmanager
def file_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder`` alone; another process that locks it waits. The lock ends with the process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise _explained(error, folder / ".lock") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            told = (
                f"the disk of {folder} cannot lock files ({error.strerror}), so that two processes could write one file"
            )
            raise OSError(error.errno, f"{told}. Choose another disk: {ELSEWHERE}") from error
        yield


def headless() -> bool:
    """Return whether output goes to a log: no terminal and no live notebook, or ``$CRODINO_HEADLESS`` is set."""
    live = "ipykernel" in sys.modules or sys.stderr.isatty()
    return bool(os.environ.get("CRODINO_HEADLESS")) or not live


def bar(items: Iterable | None = None, label: str = "", **options: Any) -> tqdm:
    """Return tqdm's progress bar; it vanishes when done and is silent when headless, where callers print lines."""
    return tqdm(items, desc=label, leave=False, disable=headless(), dynamic_ncols=True, **options)


def say(line: str) -> None:
    """Print a line without breaking a bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
