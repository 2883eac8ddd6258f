"""Notebooks executed headlessly: skipped while nothing they depend on has changed, and told apart when they fail."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from unittest import mock

import nbconvert
import papermill
from papermill.exceptions import PapermillExecutionError

from crodino_lib.config import StudyConfig, home
from crodino_lib.io import atomic_write, read_json
from crodino_lib.study.runs import source_hash

LAST_LINES = 15


class NotebookFailed(RuntimeError):
    """A cell of a notebook raised; the message names notebook, cell, error and the last lines of the log."""


class Tail:
    """A text stream that keeps the last lines and passes everything on."""

    def __init__(self, onward: TextIO | None):
        self.onward = onward
        self.lines: deque[str] = deque(maxlen=LAST_LINES)

    def write(self, text: str) -> int:
        """Keep and pass on."""
        self.lines.extend(line for line in text.splitlines() if line.strip())
        if self.onward:
            self.onward.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind."""
        if self.onward:
            self.onward.flush()


@dataclass(frozen=True)
class Executed:
    """An executed copy of a notebook: ``<stem>.ipynb`` and ``<stem>.html`` in ``folder``."""

    source: Path
    folder: Path

    @property
    def notebook(self) -> Path:
        """The executed copy."""
        return self.folder / self.source.name

    @property
    def html(self) -> Path:
        """The executed copy as a page."""
        return self.notebook.with_suffix(".html")

    @property
    def stamp(self) -> Path:
        """Holds the hash of everything the copy was made from."""
        return self.folder / f".{self.source.stem}.json"

    def is_current(self, key: str) -> bool:
        """Whether the copy was made from exactly this."""
        return self.html.exists() and self.stamp.exists() and read_json(self.stamp)["key"] == key


def notebook_key(source: Path, parameters: dict, runs: list[str]) -> str:
    """Hash of a notebook's cells, its parameters, the library and the runs it may show."""
    cells = [(cell["cell_type"], cell["source"]) for cell in json.loads(source.read_text())["cells"]]
    text = json.dumps([cells, parameters, source_hash("."), sorted(runs)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def execute(source: Path, folder: Path, config: StudyConfig, key: str, log: TextIO | None = None) -> Executed:
    """Run a notebook with papermill and keep the executed copy and its page.

    Args:
        source: the notebook.
        folder: where the copies go.
        config: the study, injected as parameters.
        key: from ``notebook_key``.
        log: where the notebook's output goes as it comes.

    Raises:
        NotebookFailed: a cell raised; the copy executed so far is kept.
    """
    executed = Executed(source, folder)
    folder.mkdir(parents=True, exist_ok=True)
    executed.stamp.unlink(missing_ok=True)
    tail = Tail(log)
    try:
        with mock.patch.dict(os.environ, CRODINO_HEADLESS="1"):  # the kernel inherits it: lines, not bars
            papermill.execute_notebook(
                str(source),
                str(executed.notebook),
                parameters=injected(config),
                cwd=str(home()),
                progress_bar=False,
                stdout_file=tail,
                stderr_file=tail,
                kernel_name="python3",
                extra_arguments=["--IPKernelApp.log_level=40"],  # or every kernel warns that it listens on this machine
            )
    except PapermillExecutionError as error:
        lines = "\n".join(f"  {line}" for line in tail.lines)
        raise NotebookFailed(
            f"notebook {source.name}, cell {error.exec_count}: {error.ename}: {error.evalue}\n"
            f"last lines of its log:\n{lines}\nexecuted so far: {executed.notebook}"
        ) from error
    body, _ = nbconvert.HTMLExporter(embed_images=True).from_filename(str(executed.notebook))
    with atomic_write(executed.html) as path:
        path.write_text(body)
    with atomic_write(executed.stamp) as path:
        path.write_text(json.dumps({"key": key}))
    return executed


def injected(config: StudyConfig) -> dict:
    """The study's settings as papermill parameters: plain literals, and only those that are not the default."""
    settings = config.model_dump(mode="json", exclude_defaults=True)
    return {**settings, "study": config.name, "profile": config.profile}
