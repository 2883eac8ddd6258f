"""A draft of a dataset.toml: written from what lies in a folder, it opens, and guesses are marked."""

import numpy as np
import pytest
from PIL import Image

from crodino_lib.cli import main
from crodino_lib.config import DataConfig
from crodino_lib.data.folder import open_folder
from crodino_lib.datasets.draft import draft, write_draft
from crodino_lib.datasets.validate import inspect_folder

SCANS = "abcdefghijklmnop"
COLOURS = np.uint8([(10, 200, 30), (200, 10, 30), (0, 0, 0)])


@pytest.fixture
def unknown(tmp_path):
    """Writes a folder of sixteen scans of one frame each, with pictures as given: name -> function of class ids."""

    def write(**kinds):
        for scan in SCANS:
            for frame in range(1):
                generator = np.random.default_rng(ord(scan))
                ids = generator.integers(0, 3, (32, 48), dtype=np.uint8)
                for name, made in kinds.items():
                    path = tmp_path / "mine" / name / f"{scan}_{frame:04d}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(made(ids, generator)).save(path)
        return tmp_path / "mine"

    return write


def rgb(ids, generator):
    return generator.integers(0, 256, (*ids.shape, 3), dtype=np.uint8)


def millimetres(ids, generator):
    return np.where(ids == 0, 0, generator.integers(800, 5000, ids.shape)).astype(np.uint16)


def test_a_draft_opens_and_says_what_it_guessed(unknown):
    root = unknown(colour=rgb, Depth=millimetres, masks=lambda ids, _: np.uint8([3, 7, 255])[ids])
    write_draft(root)
    dataset = open_folder(DataConfig(dataset="folder", root=str(root)))
    sample = dataset.read("a_0000")
    assert set(dataset.card.sensors) == {"rgb", "depth"}
    assert set(np.unique(sample["label"])) == {0, 1, 255}
    assert 0.8 <= sample["depth"][sample["depth_valid"]].min() < 1
    assert dataset.card.sensors["depth"].mean[0] == pytest.approx(2.9, abs=0.2)
    guesses = [line for line in (root / "dataset.toml").read_text().splitlines() if "guess" in line]
    assert len(guesses) == 5  # the heading, classes, unit, invalid, scale


def test_labels_in_colours_and_lists_are_found(unknown):
    root = unknown(
        images=rgb, lwir=lambda ids, g: g.integers(0, 256, ids.shape, dtype=np.uint8), gt=lambda ids, _: COLOURS[ids]
    )
    names = [f"{scan}_{frame:04d}" for scan in SCANS for frame in range(1)]
    for part, chosen in {"train": names[:8], "val": names[8:12], "test": names[12:]}.items():
        (root / f"{part}.txt").write_text("\n".join(chosen))
    write_draft(root)
    dataset = open_folder(DataConfig(dataset="folder", root=str(root)))
    assert dataset.splits["test"] == names[12:]
    assert set(dataset.card.sensors) == {"rgb", "thermal"}
    assert set(np.unique(dataset.read("a_0000")["label"])) == {0, 1, 2}


def test_inspection_proposes_a_draft_writes_it_and_reads_it(unknown, capsys):
    root = unknown(left=rgb, range=millimetres, labels=lambda ids, _: ids)
    assert f"crodino inspect {root} --draft writes one" in inspect_folder(root).problems[-1]
    main(["inspect", str(root), "--draft"])
    told = capsys.readouterr().out
    assert "a draft; check every line that says guess" in told
    assert "read as mine" in told
    assert main(["inspect", str(root), "--draft"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_two_folders_of_one_role_have_names_of_their_own_and_any_folder_name_will_do(unknown):
    root = unknown(depth=millimetres, disparity=millimetres, gt=lambda ids, _: ids)
    root = root.rename(root.with_name("--数据"))
    (root / "trainval.txt").write_text("not a list of val")
    write_draft(root)
    dataset = open_folder(DataConfig(dataset="folder", root=str(root)))
    assert set(dataset.card.sensors) == {"depth", "disparity"}
    assert dataset.card.name == "数据"


def test_a_folder_without_labels_or_a_second_sensor_has_no_draft(unknown):
    root = unknown(rgb=rgb, labels=lambda ids, _: ids)
    with pytest.raises(
        ValueError, match=r"no draft: expected .* two of pictures or more, found labels \(label\), rgb \(rgb\)"
    ):
        draft(root)


def test_a_settings_file_that_lies_elsewhere_is_pointed_at(unknown):
    root = unknown(left=rgb, range=millimetres, labels=lambda ids, _: ids)
    write_draft(root)
    assert f"is {root / 'dataset.toml'} meant?" in inspect_folder(root.parent).problems[-1]
    (root / "dataset.toml").rename(root / "dataset.toml.txt")
    assert "dataset.toml.txt meant?" in inspect_folder(root).problems[-1]
