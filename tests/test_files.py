import errno
import multiprocessing
import os
import time

import numpy as np
import pytest

from crodino_lib import io as files
from crodino_lib.io import atomic_write, file_lock, load_npz, read_table


def write_and_fail(target):
    with atomic_write(target) as path:
        path.write_text("half")
        raise KeyError


def test_a_file_is_whole_or_absent(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with pytest.raises(KeyError):
        write_and_fail(target)
    assert list(target.parent.iterdir()) == []
    with atomic_write(target) as path:
        path.write_text("whole")
    assert [file.name for file in target.parent.iterdir()] == ["file.txt"]
    assert target.read_text() == "whole"


def test_an_old_file_stays_when_writing_fails(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(KeyError):
        write_and_fail(target)
    assert target.read_text() == "old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_is_full_or_read_only_is_told_with_its_folder_and_the_way_out(code, tmp_path):
    with (
        pytest.raises(OSError, match=r"cannot write file\.txt into .*CRODINO_CACHE") as caught,
        atomic_write(tmp_path / "file.txt"),
    ):
        raise OSError(code, os.strerror(code))
    assert str(tmp_path) in str(caught.value)


def test_a_writer_with_errors_of_its_own_is_told_the_same_when_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SPARE_BYTES", 1 << 62)
    with pytest.raises(OSError, match="the disk is full"), atomic_write(tmp_path / "file.pt"):
        raise RuntimeError("PytorchStreamWriter failed writing file")


def _hold(folder, started, seconds):
    with file_lock(folder):
        started.set()
        time.sleep(seconds)


def test_a_second_process_waits_for_the_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, started, 0.5))
    holder.start()
    started.wait()
    asked = time.monotonic()
    with file_lock(tmp_path):
        waited = time.monotonic() - asked
    holder.join()
    assert waited > 0.2


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("a,b\n1,2\n")
    assert read_table(path, ("a", "b")).to_dict("list") == {"a": [1], "b": [2]}
    for text, told in (("\n", "No columns"), ("", "is cut"), ("a,b\n1,2\n3,", "is cut"), ("a\n1\n", "it has no b")):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"answers.csv is damaged.*{told}.*regenerated"):
            read_table(path, ("a", "b"))


def test_a_bare_array_is_no_archive(tmp_path):
    with (tmp_path / "latents.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"latents\.npz is damaged"), load_npz(tmp_path / "latents.npz"):
        pass
