"""Every row on a copy of NYU Depth v2, where there is one."""

import os
from pathlib import Path

import pytest

from crodino_lib.config import home as checkout
from crodino_lib.methods.registry import METHODS
from tests.rows.smoke import SMALL, make_home, run

COPY = Path(os.environ.get("CRODINO_NYU_ROOT") or checkout().parent / "shared/data/nyuv2")
home = pytest.fixture(scope="module")(make_home)


@pytest.mark.skipif(not COPY.is_dir(), reason="no copy of NYU Depth v2; set CRODINO_NYU_ROOT")
@pytest.mark.parametrize("name", METHODS)
def test_it_runs_from_the_command_line(name, home, monkeypatch, capsys):
    record = run(
        name,
        ("rgb", "depth"),
        home,
        monkeypatch,
        capsys,
        *SMALL,
        "--dataset",
        "nyu13",
        "--root",
        str(COPY),
        splits=("test",),
    )
    assert record["finished"] is True
