"""Every row on rooms, rgb and thermal, with another and much smaller encoder than the default."""

import pytest

from crodino_lib.methods.registry import METHODS
from tests.rows.smoke import SMALL, make_home, run

home = pytest.fixture(scope="module")(make_home)


@pytest.mark.parametrize("name", METHODS)
def test_it_runs_from_the_command_line(name, home, monkeypatch, capsys):
    record = run(name, ("rgb", "thermal"), home, monkeypatch, capsys, *SMALL)
    assert record["finished"] is True
