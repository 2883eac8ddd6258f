"""Each case imports ``crodino_lib.losses`` in an interpreter of its own, some with a stand-in for torchvision."""

import os
import subprocess
import sys

import pytest

COUNT = "import sys; sys.loads = getattr(sys, 'loads', 0) + 1\n"
# what torchvision does on import where its compiled operators did not load
REGISTERS = (
    "import torch; import torchvision.helper; torch.library.register_fake('torchvision::nms')(lambda *_: None)\n"
)
SAYS = (
    "import sys, crodino_lib.losses, torchvision; "
    "import crodino_lib._torchvision as guard; print(sys.loads, len(guard._declared))"
)


@pytest.fixture
def run(tmp_path):
    """Run ``code`` with a torchvision made of ``stand_in``, or the installed one; returns the finished process."""

    def run(code, stand_in=None):
        if stand_in is not None:
            (tmp_path / "torchvision").mkdir()
            (tmp_path / "torchvision" / "__init__.py").write_text(stand_in)
            (tmp_path / "torchvision" / "helper.py").write_text("import sys; sys.helps = getattr(sys, 'helps', 0) + 1")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_it_is_inert_where_torchvision_loads(run):
    found = run(SAYS, COUNT)
    assert found.stdout.split() == ["1", "0"], found.stderr


def test_it_declares_the_missing_operators_and_imports_everything_again(run):
    found = run(SAYS + "; print(sys.helps, torchvision.whole)", COUNT + REGISTERS + "whole = True")
    assert found.stdout.split() == ["2", "1", "2", "True"], found.stderr


def test_any_other_runtime_error_is_raised_on_and_not_tried_again(run):
    found = run(
        "import sys\ntry: import crodino_lib.losses\nfinally: print(sys.loads)",
        COUNT + "raise RuntimeError('torchvision was built for another torch')",
    )
    assert found.returncode == 1
    assert found.stdout.split() == ["1"]
    assert found.stderr.strip().endswith("RuntimeError: torchvision was built for another torch")


def test_a_missing_torchvision_is_not_hidden(run):
    found = run("import crodino_lib.losses", "raise ModuleNotFoundError('No module named torchvision')")
    assert found.returncode == 1
    assert "ModuleNotFoundError: No module named torchvision" in found.stderr


def test_a_compiled_operator_that_is_missing_still_says_so_in_torchvisions_words(run):
    found = run(
        "import crodino_lib.losses, torch, torchvision\n"
        "if torchvision.extension._has_ops(): print('has operators')\n"
        "torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"
    )
    if "has operators" in found.stdout:
        assert found.returncode == 0, found.stderr
    else:
        assert "Couldn't load custom C++ ops" in found.stderr
