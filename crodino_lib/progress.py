"""Progress: a bar where somebody watches, lines where a log is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from tqdm.auto import tqdm


def headless() -> bool:
    """Whether output goes to a log: no terminal and no live notebook, or ``$CRODINO_HEADLESS`` is set."""
    if os.environ.get("CRODINO_HEADLESS"):
        return True
    return "ipykernel" not in sys.modules and not sys.stderr.isatty()


def bar(items: Iterable | None = None, *, total: int | None = None, label: str = "", unit: str = "it") -> tqdm:
    """A progress bar that vanishes when done; silent when headless, where callers print lines instead."""
    return tqdm(items, total=total, desc=label, unit=unit, leave=False, disable=headless(), dynamic_ncols=True)


def say(line: str) -> None:
    """Print a line without breaking a bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
