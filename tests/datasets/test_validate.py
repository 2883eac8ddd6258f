import re
import shutil

import numpy as np
import pytest

from crodino_lib.cli import main
from crodino_lib.datasets import validate
from crodino_lib.datasets.validate import contents, inspect_folder


def test_a_known_folder_is_named_and_nothing_stands_against_it(mini):
    found = inspect_folder(mini, everything=True)
    assert [name for name, error in found.readings.items() if not error] == ["folder"]
    assert found.problems == []
    assert found.splits.loc["train", "read"] == len(found.dataset.ids("train"))
    assert found.splits.loc["test", "sizes"] == "48x40 (3)"
    label = np.stack([found.dataset.read(scene_id)["label"] for scene_id in found.dataset.ids("val")])
    assert found.classes["val"]["wall"] == pytest.approx(100 * (label == 0).sum() / (label != 255).sum(), abs=0.01)
    assert found.classes["val"].iloc[3] == pytest.approx(100 * (label == 255).mean(), abs=0.01)
    depth = np.concatenate([found.dataset.read(i)["depth"] for i in found.dataset.ids("val")])
    assert float(found.sensors.loc["depth, val", "mean"]) == pytest.approx(depth[depth > 0].mean(), rel=1e-2)


def test_some_scenes_of_every_split_are_read_unless_all_are_asked_for(mini, monkeypatch):
    monkeypatch.setattr(validate, "SPREAD", 2)
    assert inspect_folder(mini).splits["read"].tolist() == [2, 2, 2]


def test_files_are_counted_and_the_first_is_opened(mini):
    table = inspect_folder(mini).files.set_index(["folder", "ending"])
    assert table.loc[("Depth", ".png"), "files"] == 17
    assert table.loc[("Depth", ".png"), "holds"].startswith("uint16 48x40, 0..")
    assert table.loc[("Label", ".png"), "holds"] == "uint8 48x40, 0..3, ids 0 1 2 3"
    assert table.loc[(".", ".txt"), "files"] == 2


def test_tags_of_a_tiff_are_told(tmp_path):
    import tifffile

    tags = [(42113, "s", 0, "-10000", True), (274, "H", 1, 3, True)]
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 6), np.float32), extratags=tags)
    assert contents(tmp_path / "a.tif") == "float32 6x8, 1.0..1.0, no-data -10000, orientation 3"


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    assert contents(tmp_path / "a.png").startswith("unreadable: ")


def test_what_is_no_dataset_is_said_to_be_none(tmp_path, save):
    save(tmp_path / "holiday/beach.jpg", np.zeros((8, 8, 3), np.uint8))
    found = inspect_folder(tmp_path)
    assert all(found.readings.values())
    assert "unknown layout, and no dataset.toml says" in found.problems[0]


def test_a_folder_with_another_name_is_not_what_it_was_called(mini):
    found = inspect_folder(mini, "nyu13")
    assert list(found.readings) == ["nyu13"]
    assert found.problems[0].startswith("as nyu13: ")


def damaged(root, save):
    path = root / "Depth/0001.png"
    path.write_bytes(path.read_bytes()[:300])


def other_size(root, save):
    save(root / "Depth/0001.png", np.full((20, 24), 900, np.uint16))


def other_type(root, save):
    save(root / "Depth/0001.png", np.full((40, 48), 90, np.uint8))


def no_class(root, save):
    save(root / "Label/0001.png", np.full((40, 48), 7, np.uint8))


def no_label(root, save):
    for path in (root / "Label").iterdir():
        save(path, np.zeros((40, 48), np.uint8))


def centimetres(root, save):
    toml = root / "dataset.toml"
    toml.write_text(toml.read_text().replace("scale = 0.001", "scale = 0.01"))


def gone(root, save):
    (root / "RGB/0002.jpg").unlink()


def swapped(root, save):
    (root / "RGB").rename(root / "x")
    (root / "Label").rename(root / "RGB")
    (root / "x").rename(root / "Label")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged, r"Depth/0001\.png .*cannot be read"),
        (other_size, r"Depth/0001\.png has 24x20 pixels"),
        (other_type, r"Depth/0001\.png holds uint8"),
        (no_class, r"Label/0001\.png holds the ids \[7\]"),
        (no_label, "split train: no pixel has a label"),
        (centimetres, r"depth is .* m, far from the stated 2.5 \+- 1 .*unit, scale"),
        (gone, r"1 file\(s\) .*missing: rgb RGB/0002"),
        (swapped, "channels|both fit|expected"),
    ],
)
def test_what_would_go_wrong_is_a_problem_that_names_it(mini, save, damage, message):
    damage(mini, save)
    found = inspect_folder(mini)
    assert len(found.problems) >= 1

    assert re.search(message, "\n".join(found.problems)), found.problems


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [("Depth", 0, "no valid pixel"), ("Depth", 900, "is 0.9 everywhere"), ("Label", 0, "no pixel has a label")],
)
def test_what_is_odd_is_a_warning(mini, save, entry, value, message):
    save(mini / f"{entry}/0001.png", np.full((40, 48), value, np.uint16 if entry == "Depth" else np.uint8))
    found = inspect_folder(mini)
    assert found.problems == []
    assert [warning for warning in found.warnings if "'0001'" in warning and message in warning]


def test_classes_that_never_occur_are_told_when_all_was_read(mini, save):
    for path in (mini / "Label").iterdir():
        save(path, 1 + np.arange(40 * 48, dtype=np.uint8).reshape(40, 48) % 2)
    assert not inspect_folder(mini).warnings
    assert any("never occur: ball" in warning for warning in inspect_folder(mini, everything=True).warnings)


def test_the_command_draws_a_sheet_and_its_status_says_whether_to_train(mini, tmp_path, capsys):
    assert main(["inspect", str(mini), "--sheet", str(tmp_path / "sheet.png")]) == 0
    told = capsys.readouterr().out
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    assert re.search(r"^folder +yes$", told, re.MULTILINE)
    assert "No problem was found in the " in told
    (mini / "RGB/0002.jpg").unlink()
    assert main(["inspect", str(mini)]) == 1
    assert "PROBLEM: as folder: " in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_an_error(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2
    assert "nowhere is missing" in capsys.readouterr().err


def test_options_choose_how_a_folder_is_read(mini, capsys):
    shutil.rmtree(mini / "Depth")
    assert main(["inspect", str(mini), "--dataset", "folder", "--options", "preset=cmx-nyu"]) == 1
    assert "preset cmx-nyu" in capsys.readouterr().out
    assert main(["inspect", str(mini), "--dataset", "folder", "--options", "presets=cmx-nyu"]) == 2
    assert "Did you mean 'preset'" in capsys.readouterr().err


def test_a_folder_that_is_two_datasets_is_said_to_be_both(mini_nyu):
    found = inspect_folder(mini_nyu)
    assert [name for name, error in found.readings.items() if not error] == ["nyu13", "nyu40"]
    assert found.dataset.card.name == "nyu13"


def test_a_long_list_of_folders_is_cut(mini, monkeypatch):
    monkeypatch.setattr(validate, "FILE_ROWS", 2)
    table = inspect_folder(mini).files
    assert len(table) == 3
    assert table["folder"].iloc[-1] == "and 3 more"


def test_the_layout_of_another_project_is_recognised(tmp_path, save):
    ids = [1, 2, 4, 7, 8, 11, 16, 21, 25, 30]
    for scene_id in ids:
        picture = np.random.default_rng(scene_id).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        save(tmp_path / f"RGB/{scene_id}.jpg", picture)
        save(tmp_path / f"HHA/{scene_id}.jpg", picture)
        save(tmp_path / f"Label/{scene_id}.png", np.full((40, 48), scene_id, np.uint8))
    (tmp_path / "train.txt").write_text("\n".join(map(str, ids[:-1])))
    (tmp_path / "test.txt").write_text(str(ids[-1]))
    found = inspect_folder(tmp_path)
    assert [name for name, error in found.readings.items() if not error] == ["folder preset=cmx-nyu"]
    assert found.problems == []


def stds(root, save, value="[1000.0]"):
    toml = root / "dataset.toml"
    toml.write_text(toml.read_text().replace("std = [1.0]", f"std = {value}"))


def late(root, save):
    save(root / "Depth/0041.png", np.full((40, 48), 90, np.uint8))


@pytest.mark.parametrize(
    ("damage", "everything", "message"),
    [
        (stds, False, r"depth is 2.* \+- 1.1.* m, far from the stated 2.5 \+- 1000"),
        (lambda root, save: stds(root, save, "[0.0]"), False, "std.*std above 0"),
        (lambda root, save: stds(root, save, "[nan]"), False, "std.*finite number"),
        (late, True, r"Depth/0041\.png holds uint8"),
    ],
)
def test_more_that_would_go_wrong_is_a_problem(mini, save, damage, everything, message):
    damage(mini, save)
    problems = "\n".join(inspect_folder(mini, everything=everything).problems)
    assert re.search(message, problems), problems


def test_pictures_of_several_shapes_are_told(mini, save):
    save(mini / "RGB/0005.jpg", np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8))
    save(mini / "Depth/0005.png", np.full((48, 40), 2500, np.uint16))
    save(mini / "Label/0005.png", np.ones((48, 40), np.uint8))
    assert any("several ratios of width to height" in warning for warning in inspect_folder(mini).warnings)


@pytest.mark.parametrize("array", [np.zeros((0, 4)), np.zeros(3, "u1,f4")])
def test_arrays_that_are_no_pictures_are_told(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    assert "of shape" in contents(tmp_path / "a.npy")
