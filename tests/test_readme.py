"""What the README says is what the reference tables say, and what it points to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("study", ["nyu13", "rooms-methods", "rooms-tour"])
def test_the_tables_are_those_of_the_reference_runs(study):
    lines = (ROOT / "results" / "reference" / study / "tables" / "comparison.md").read_text().splitlines()
    rows = [line for line in lines if "| test |" in line]
    assert len(rows) >= 6
    assert all(row in README for row in rows)


def test_every_file_it_points_to_exists():
    paths = [path for path in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in path]
    assert len(paths) > 6
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_map_names_every_notebook():
    there = {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(re.findall(r"\((notebooks/[^)]+)\)", README)) == there


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"<!--|TODO|FIXME", README)
