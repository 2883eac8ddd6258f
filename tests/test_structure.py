"""The shape of the library: how long each part and each module may be."""

import ast
import importlib
from pathlib import Path

import pytest

import crodino_lib

LIBRARY = Path(crodino_lib.__file__).parent
# Ceilings that may only be lowered: a part that grows past its own must lose something else.
CORE = {  # files and packages of the core -> most lines, docstrings and blank lines included
    "__init__.py": 10,
    "_torchvision.py": 40,
    "settings.py": 112,
    "config.py": 280,
    "io.py": 145,
    "device.py": 60,
    "data": 1452,
    "augment.py": 240,
    "models": 920,
    "losses": 740,
    "methods": 1425,
    "train.py": 210,
    "training.py": 160,
    "callbacks.py": 80,
    "evaluate.py": 110,
    "cost.py": 60,
    "study": 1995,
}
OPTIONAL = {
    "datasets": 1570,
    "rooms": 1170,
    "analysis": 2661,
    "figures": 1386,
    "explorer": 527,
    "report.py": 130,
    "predict.py": 100,
    "deployed.py": 80,
    "tracking.py": 95,
    "export.py": 230,
    "listing.py": 60,
    "command_options.py": 132,
    "cli.py": 300,
}
MOST_CORE, MOST, LONGEST = 7984, 16410, 300


def lines(name: str) -> int:
    path = LIBRARY / name
    files = path.rglob("*.py") if path.is_dir() else [path]
    return sum(len(file.read_text().splitlines()) for file in files)


@pytest.mark.parametrize(("name", "most"), [*CORE.items(), *OPTIONAL.items()])
def test_a_part_keeps_its_budget_of_lines(name, most):
    assert lines(name) <= most


def test_every_part_has_a_budget():
    parts = {path.name for path in LIBRARY.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts == {*CORE, *OPTIONAL}


def test_core_and_whole_stay_thin():
    core = sum(map(lines, CORE))
    assert core <= MOST_CORE
    assert core + sum(map(lines, OPTIONAL)) <= MOST


def test_no_module_is_too_long_to_be_read_at_once():
    long = {str(file): n for file in LIBRARY.rglob("*.py") if (n := len(file.read_text().splitlines())) > LONGEST}
    assert long == {}


BENCHMARKS = sorted(LIBRARY.with_name("benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_of_the_library_is_there(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("crodino_lib"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")
