"""Every row on rooms, rgb and depth: one of each kind with the default encoder, its variants with a small one."""

import pytest

from crodino_lib.methods.registry import METHODS
from tests.rows.smoke import FIRST_OF_A_KIND, SMALL, make_home, run

home = pytest.fixture(scope="module")(make_home)


@pytest.mark.parametrize("name", METHODS)
def test_it_runs_from_the_command_line(name, home, monkeypatch, capsys):
    record = run(name, ("rgb", "depth"), home, monkeypatch, capsys, *([] if name in FIRST_OF_A_KIND else SMALL))
    assert record["finished"] is True
