"""A small copy of NYU Depth v2 on disk."""

from pathlib import Path

import pytest
from miniatures import nyu


@pytest.fixture
def mini_nyu(tmp_path) -> Path:
    """The tree of the 8-bit NYU Depth v2 copy, ten scenes small."""
    return nyu.write_tree(tmp_path / "nyuv2")
