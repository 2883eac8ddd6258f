"""Execute notebooks headlessly, and read the parameters that a notebook sets."""

import ast
import hashlib
import io
import json
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

import crodino_lib
from crodino_lib.config import StudyConfig, home
from crodino_lib.io import atomic_write, read_json
from crodino_lib.study.pages import notebook_body, notebook_links, notebook_title, write_page

LAST_LINES = 15
INSTALLED = Path(sys.prefix) / "share" / "crodino" / "notebooks"  # where a wheel puts them
INJECTED = "# Parameters\n"  # the first line of the cell that papermill injects


class NotebookFailed(RuntimeError):
    """A cell of a notebook raised; the message names notebook, cell, error and the last lines of the log."""


class Tail(io.TextIOBase):
    """A text stream that keeps the last lines, and passes every line on with a label before it."""

    def __init__(self, onward: TextIO | None, label: str = ""):
        self.onward, self.label = onward, label
        self.lines: deque[str] = deque(maxlen=LAST_LINES)

    def write(self, text: str) -> int:
        """Keep the lines of the text and pass them on."""
        lines = [line for line in text.splitlines() if line.strip()]
        self.lines.extend(lines)
        if self.onward:
            self.onward.writelines(f"{self.label}{line}\n" for line in lines)
            self.onward.flush()
        return len(text)


class Executed:
    """An executed copy of a notebook: ``<stem>.ipynb``, its page, and a stamp with the hash of all it was made from."""

    def __init__(self, source: Path, folder: Path):
        self.source, self.folder = source, folder
        self.notebook = folder / source.name
        self.html = self.notebook.with_suffix(".html")
        self.stamp = folder / f".{source.stem}.json"

    def is_current(self, key: str) -> bool:
        """Return whether the copy was made from exactly what ``key`` is the hash of."""
        return self.html.exists() and self.stamp.exists() and read_json(self.stamp)["key"] == key


def notebooks() -> list[Path]:
    """Return the notebooks of the series, in order: your own below ``CRODINO_HOME``, or those that are installed.

    Raises:
        FileNotFoundError: there is no folder of notebooks.
    """
    folders = [home() / "notebooks", Path(crodino_lib.__file__).parent.parent / "notebooks", INSTALLED]
    for folder in folders:
        if series := sorted(folder.glob("[0-9][0-9]_*.ipynb")):
            return series
    raise FileNotFoundError(f"no notebooks in {' or '.join(map(str, folders))}: install crodino again")


def notebook_parameters(namespace: dict[str, Any]) -> dict[str, Any]:
    """Return names and values that the parameters cell, and the cell papermill injects after it, have set.

    papermill only warns of a parameter that a notebook does not have, and injects it all the same: so the names come
    from the source of the cells that ran. A cell of plain literals that sets settings of a study is a parameters cell,
    whatever its comment says. One that sets several replaces those before it, as when it was edited and run again.

    Raises:
        ValueError: no parameters cell has run.
    """
    cells, known = namespace.get("In", []), set(StudyConfig.settings())
    found = [(theirs := source.lstrip().startswith(INJECTED), assigned_literals(source, theirs)) for source in cells]
    whole = [i for i, (injected, names) in enumerate(found) if not injected and len(known & set(names)) > 1]
    used = [names for injected, names in found[max(whole, default=0) :] if injected or known & set(names)]
    names = dict.fromkeys(name for found in used for name in found)
    if not names:
        raise ValueError("no parameters cell has run; run the notebook from its top")
    return {name: namespace[name] for name in names}


def assigned_literals(source: str, injected: bool = False) -> list[str]:
    """Return the names that a cell sets, where it does nothing but set names to plain literals, as injected ones do."""
    try:
        nodes = ast.parse(source).body
        for node in [] if injected else nodes:  # papermill writes an infinite value as a call of float
            ast.literal_eval(node.value if isinstance(node, ast.Assign) else node)
    except (SyntaxError, ValueError, TypeError):  # a magic, a statement, an expression that is no literal
        return []
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def notebook_key(source: Path, config: StudyConfig, runs: list[str]) -> str:
    """Return a hash of a notebook's cells, its parameters, the library and the hashes of the study's runs."""
    cells = [(cell["cell_type"], cell["source"]) for cell in json.loads(source.read_text())["cells"]]
    digest = hashlib.sha256(json.dumps([cells, config.model_dump(mode="json"), sorted(runs)]).encode())
    files = Path(crodino_lib.__file__).parent.rglob("*.*")  # templates, drawings and tables decide a page, too
    for file in sorted(path for path in files if "__pycache__" not in path.parts):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def execute(source: Path, folder: Path, config: StudyConfig, key: str, log: TextIO | None = None) -> Executed:
    """Run a notebook with papermill, and keep the executed copy and its page in ``folder``.

    ``config`` is injected as parameters, ``key`` is from ``notebook_key``, and ``log`` gets the output as it comes.

    Raises:
        NotebookFailed: a cell raised; the copy executed so far is kept.
    """
    import papermill  # a second of imports that no training needs
    from papermill.exceptions import PapermillExecutionError

    executed = Executed(source, folder)
    folder.mkdir(parents=True, exist_ok=True)
    executed.stamp.unlink(missing_ok=True)
    tail = Tail(log, f"{source.stem} | ")
    try:
        with mock.patch.dict(os.environ, CRODINO_HEADLESS="1"):  # the kernel inherits it: lines, not bars
            papermill.execute_notebook(
                str(source),
                str(executed.notebook),
                parameters=config.flat(),
                cwd=str(home()),
                progress_bar=False,
                stdout_file=tail,
                stderr_file=tail,
                kernel_name="python3",
                extra_arguments=[
                    "--IPKernelApp.log_level=50"
                ],  # or kernels say that they listen, and that they were ended
            )
    except PapermillExecutionError as error:
        lines = "\n".join(f"  {line}" for line in tail.lines)
        raise NotebookFailed(
            f"notebook {source.name}, cell {error.exec_count}: {error.ename}: {error.evalue}\n"
            f"last lines of its log:\n{lines}\nexecuted so far: {executed.notebook}"
        ) from error
    links = notebook_links(source, folder)
    write_page(executed.html, notebook_title(source), notebook_body(executed.notebook), links)
    with atomic_write(executed.stamp) as path:
        path.write_text(json.dumps({"key": key}))
    return executed
