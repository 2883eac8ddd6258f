import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis import umap_embedding
from crodino_lib.analysis.embedding_quality import cross_modality_fraction
from crodino_lib.analysis.extraction import Block, Latents
from crodino_lib.analysis.umap_embedding import fit_aligned_umap, read_frames


def frame(gap, regions=40, collapsed=False):
    """Four classes in clusters; the sensors lie ``gap`` apart. A later frame is the same with another gap."""
    generator = np.random.default_rng(0)
    index = np.arange(regions) % 4
    centres = 6 * generator.normal(size=(4, 12))
    rows = pd.DataFrame({"image": [f"{i:02d}" for i in range(regions)], "class": index, "name": "c", "cells": 1.0})
    blocks = {}
    for sensor, side in (("rgb", 0.5), ("depth", -0.5)):
        block = centres[index] + generator.normal(size=(regions, 12)) + side * gap
        blocks[Block(sensor, "shared")] = (np.full_like(block, side) if collapsed else block).astype(np.float32)
    return Latents(blocks, rows)


@pytest.fixture
def first_two(monkeypatch):
    """An alignment that costs nothing: the distances to the first two points."""
    monkeypatch.setattr(umap_embedding, "align", lambda frames, *_: [distances[:, :2] for distances in frames])


@pytest.mark.usefixtures("first_two")
def test_every_epoch_shows_the_same_points_in_the_same_order():
    found = fit_aligned_umap({7: frame(0), 0: frame(20), 3: frame(10)}, "shared", 0, n=50)
    assert found.points["epoch"].unique().tolist() == [0, 3, 7]
    places = [part[["image", "class", "sensor"]].to_numpy().tolist() for _, part in found.points.groupby("epoch")]
    assert places[0] == places[1] == places[2]
    assert len(places[0]) == 50
    assert found.points["image"].nunique() == 25
    assert list(found.points) == ["half", "epoch", "image", "class", "name", "sensor", "x", "y"]


@pytest.mark.usefixtures("first_two")
def test_every_epoch_has_its_own_quality():
    table = fit_aligned_umap({0: frame(100), 5: frame(0)}, "shared", 3).table
    assert table["epoch"].tolist() == [0, 5]
    assert table["cross_modality_hd"].iloc[0] == 0
    assert table["cross_modality_hd"].iloc[1] == pytest.approx(0.5, abs=0.06)
    points = fit_aligned_umap({0: frame(100), 5: frame(0)}, "shared", 3).points.query("epoch == 5")
    mixed = cross_modality_fraction(points[["x", "y"]].to_numpy(), points["sensor"], 15)
    assert table["cross_modality_2d"].iloc[1] == mixed
    assert (table["seed"] == 3).all()
    assert "disparity" not in table


@pytest.mark.usefixtures("first_two")
def test_an_epoch_whose_half_collapsed_has_a_remark_and_no_points():
    found = fit_aligned_umap({0: frame(0), 1: frame(0, collapsed=True), 2: frame(1)}, "shared", 0)
    assert found.points["epoch"].unique().tolist() == [0, 2]
    assert found.table["points"].tolist() == [80, 0, 80]
    assert found.table["remark"].tolist() == ["", "collapsed: all vectors of a sensor are equal", ""]


def test_a_film_of_less_than_two_frames_says_how_to_get_them():
    with pytest.raises(ValueError, match="a film needs at least 2 frames, found 1: train with frames = 2 or more"):
        fit_aligned_umap({0: frame(0)}, "shared", 0)
    with pytest.raises(ValueError, match="the shared half has collapsed in 1 of 2 frames; a film needs 2 others"):
        fit_aligned_umap({0: frame(0), 1: frame(0, collapsed=True)}, "shared", 0)


def test_frames_of_different_regions_and_unknown_halves_are_refused():
    with pytest.raises(ValueError, match="the regions of epoch 1 are not those of the other frames"):
        fit_aligned_umap({0: frame(0), 1: frame(0, regions=36)}, "shared", 0)
    with pytest.raises(ValueError, match="half 'private' does not exist; it must be one of shared"):
        fit_aligned_umap({0: frame(0), 1: frame(0)}, "private", 0)


def test_frames_are_read_by_their_epoch_and_other_files_left_alone(tmp_path):
    for epoch in (12, 0, 3):
        frame(epoch).save(tmp_path / f"epoch-{epoch:04d}.npz")
    frame(0).save(tmp_path / "last.npz")
    found = read_frames(tmp_path)
    assert list(found) == [0, 3, 12]
    np.testing.assert_array_equal(found[12].blocks["rgb", "shared"], frame(12).blocks["rgb", "shared"])


def test_a_folder_without_frames_says_how_to_get_them(tmp_path):
    frame(0).save(tmp_path / "epoch-0000.npz")
    with pytest.raises(ValueError, match=r"holds 1 frames .* a film needs 2: train with frames = 2 or more"):
        read_frames(tmp_path)
    with pytest.raises(ValueError, match="holds 0 frames"):
        read_frames(tmp_path / "absent")


@pytest.mark.slow
def test_aligned_pictures_hold_still_where_the_latents_do_and_are_repeatable():
    """Compiling the aligned fit takes most of a minute; the tests above replace it."""
    frames = {epoch: frame(gap) for epoch, gap in enumerate((40, 40, 40))}
    found = fit_aligned_umap(frames, "shared", 0)
    places = found.points[["x", "y"]].to_numpy().reshape(3, 80, 2)
    moved = np.linalg.norm(np.diff(places, axis=0), axis=2).mean()
    shuffled = np.random.default_rng(0).permutation(80)
    assert moved < 0.3 * np.linalg.norm(places[0] - places[0][shuffled], axis=1).mean()
    assert (found.table["trustworthiness"] > 0.8).all()
    pd.testing.assert_frame_equal(fit_aligned_umap(frames, "shared", 0).points, found.points)
