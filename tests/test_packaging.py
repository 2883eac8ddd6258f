"""One set of dependencies, said three times: pyproject.toml, requirements.txt and environment.yml agree."""

import itertools
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {"torch": "pytorch"}  # where conda-forge calls it otherwise
CONDA_ITSELF = {"python", "pip"}


@pytest.fixture
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def declared(project) -> dict[str, Requirement]:
    """Name -> requirement, of the core and every extra."""
    lines = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


@pytest.fixture
def pinned() -> dict[str, Requirement]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    return {requirement.name: requirement for requirement in map(Requirement, filter(None, lines))}


@pytest.fixture
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def version_of(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    return pin.version


def test_conda_gets_the_same_packages_within_the_same_bounds(declared, project, environment):
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (pip,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    found = {requirement.name: requirement for requirement in map(Requirement, [*conda, *pip[:-1]])}
    assert len(found) == len(conda) + len(pip) - 1  # nothing twice
    expected = {CONDA_NAMES.get(name, name): requirement.specifier for name, requirement in declared.items()}
    assert {name: found[name].specifier for name in set(found) - CONDA_ITSELF} == expected
    assert str(found["python"].specifier) == project["requires-python"]


def test_conda_installs_the_project_itself_last_and_from_conda_forge_alone(environment):
    assert environment["dependencies"][-1]["pip"][-1] == "-e ."
    assert environment["channels"] == ["conda-forge"]
    assert environment["name"] == "crodino"


def test_every_line_of_the_conda_environment_says_its_purpose():
    packages = [
        line for line in (ROOT / "environment.yml").read_text().splitlines() if re.match(r"\s+- [\w-]+[^:]*$", line)
    ]
    lines = packages[packages.index("  - conda-forge") + 1 :]
    assert len(lines) > 20
    assert [line for line in lines if not re.search(r"  # \S", line)] == []


def test_every_dependency_is_pinned_within_its_bounds(declared, pinned):
    missing = set(declared) - set(pinned)
    assert not missing
    for name, requirement in declared.items():
        pin = pinned[name].specifier
        assert re.fullmatch(r"==[\d.]+", str(pin)), f"{name}{pin} is no pin"
        assert requirement.specifier.contains(version_of(pinned[name])), f"{pinned[name]} breaks {requirement}"


def test_nothing_is_pinned_that_the_project_does_not_declare(declared, pinned):
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert set(pinned) - set(declared) == {Requirement(line).name for line in build}


def test_make_installs_the_pinned_torch(pinned):
    assert re.findall(r"torch==([\d.]+)", (ROOT / "Makefile").read_text()) == [version_of(pinned["torch"])]


def test_a_wheel_holds_the_notebooks_and_every_file_that_the_library_reads(tmp_path):
    """Build it as pip does; the build folder is a copy, so that nothing is left in the checkout."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "crodino_lib", source / "crodino_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", source / "notebooks")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    library = {path.relative_to(source).as_posix() for path in source.glob("crodino_lib/**/*.*")}
    assert library <= packed
    installed = {name.split("/data/")[1] for name in packed if "/data/share/" in name}
    assert installed == {f"share/crodino/notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
