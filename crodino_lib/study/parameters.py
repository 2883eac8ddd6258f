"""Parameters of a notebook: read from its cells, checked against what a study may set."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import papermill

from crodino_lib.config import StudyConfig, choose, home, profiles

_OURS = re.compile(r"^\s*# Parameters:")
_PARAMETERS_CELL = re.compile(r"^\s*# Parameters")  # ours, and the one papermill injects after it


def notebook_parameters(namespace: dict[str, Any]) -> dict[str, Any]:
    """Names and values that the parameters cell, and the cell papermill injects after it, have set.

    papermill only warns of a parameter that a notebook does not have, and injects it all the same: so the names come
    from the source of the cells that ran, not from the names a study knows.

    Args:
        namespace: the notebook's ``globals()``.

    Raises:
        ValueError: no parameters cell has run.
    """
    cells = [source for source in namespace.get("In", []) if _PARAMETERS_CELL.match(source)]
    latest = max((i for i, source in enumerate(cells) if _OURS.match(source)), default=0)
    cells = cells[latest:]  # a cell that was mended and run again replaces what it said before
    names = dict.fromkeys(name for source in cells for name in assigned_names(source))
    if not names:
        raise ValueError("no parameters cell has run; run the notebook from its top")
    return {name: namespace[name] for name in names}


def assigned_names(source: str) -> list[str]:
    """Names a cell of plain assignments sets."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return [target.id for node in nodes for target in node.targets if isinstance(target, ast.Name)]


def notebooks() -> list[Path]:
    """The series, in order.

    Raises:
        FileNotFoundError: there is no folder of notebooks here.
    """
    folder = home() / "notebooks"
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise FileNotFoundError(f"no notebooks in {folder}; set CRODINO_HOME to the checkout of crodino")
    return found


def find_notebook(name: str) -> Path:
    """A notebook by its number, stem or path.

    Raises:
        ValueError: none of that name; proposes the nearest.
    """
    series = {path.stem: path for path in notebooks()}
    by_number = {stem[:2]: path for stem, path in series.items()}
    stem = Path(name).stem.zfill(2)
    return by_number.get(stem) or series[choose(stem, series, "notebook")]


def describe_parameters(path: Path) -> list[dict[str, str]]:
    """Name, type, default, allowed values and meaning of each parameter of a notebook."""
    schema = StudyConfig.model_json_schema()["properties"]
    return [
        {
            "parameter": name,
            "type": _type(schema[name]),
            "default": parameter["default"],
            "allowed": _allowed(name, schema[name]),
            "meaning": schema[name]["description"],
        }
        for name, parameter in papermill.inspect_notebook(path).items()
    ]


def _type(schema: dict) -> str:
    options = schema.get("anyOf", [schema])
    return " or ".join("None" if option["type"] == "null" else option["type"] for option in options)


def _allowed(name: str, schema: dict) -> str:
    from crodino_lib.data.registry import DATASETS
    from crodino_lib.methods.registry import METHODS

    named = {"profile": profiles(), "dataset": DATASETS, "methods": METHODS}
    if name in named:
        return ", ".join(named[name])
    for option in schema.get("anyOf", [schema]):
        if "enum" in option:
            return ", ".join(map(str, option["enum"]))
        if "minimum" in option:
            return f"{option['minimum']} or more"
    return ""
