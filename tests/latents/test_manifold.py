import numpy as np
import pandas as pd
import pytest

from crodino_lib.latents.extraction import Latents
from crodino_lib.latents.manifold import FEWEST_POINTS, embed, fidelity, fit_manifolds, standardised


def latents(per_class=20, classes=5, seed=0):
    """Classes are clusters; shared halves of both sensors lie together, private ones far apart."""
    generator = np.random.default_rng(seed)
    index = np.repeat(np.arange(classes), per_class)
    centres = 6 * generator.normal(size=(classes, 20))

    def block(offset):
        return (centres[index] + generator.normal(size=(len(index), 20)) + offset).astype(np.float32)

    rows = pd.DataFrame(
        {"image": [f"{i}" for i in range(len(index))], "class": index, "name": [f"c{k}" for k in index], "cells": 1.0}
    )
    far = 40 * generator.normal(size=20)
    blocks = {"rgb/shared": block(0), "rgb/private": block(far), "depth/shared": block(0), "depth/private": block(-far)}
    return Latents(blocks, rows)


@pytest.fixture(scope="module")
def fitted():
    return fit_manifolds({"trained": latents()}, seed=3, n_neighbors=15)


def test_every_point_is_named_and_every_half_has_a_row(fitted):
    assert fitted.points.groupby(["model", "half", "sensor"]).size().to_dict() == {
        ("trained", half, sensor): 100 for half in ("shared", "private") for sensor in ("rgb", "depth")
    }
    assert fitted.table["half"].tolist() == ["shared", "private"]
    assert (fitted.table["points"] == 200).all()
    assert (fitted.table["seed"] == 3).all()
    assert (fitted.table["k"] == 15).all()
    assert np.isfinite(fitted.points[["x", "y"]]).all(axis=None)


def test_the_picture_of_clusters_can_be_trusted(fitted):
    assert (fitted.table["trustworthiness"] > 0.8).all()
    assert (fitted.table["continuity"] > 0.8).all()


def test_shared_halves_mix_and_private_halves_do_not(fitted):
    shared, private = fitted.table.set_index("half").loc[["shared", "private"]].to_dict("records")
    for space in ("hd", "2d"):
        assert shared[f"cross_modality_{space}"] > 0.4
        assert shared[f"class_purity_{space}"] > 0.9
        assert private[f"cross_modality_{space}"] < 0.05


def test_fidelity_does_not_depend_on_the_length_of_the_vectors():
    sample = latents()
    vectors = np.concatenate([sample.blocks["rgb/shared"], sample.blocks["depth/shared"]])
    rows = pd.concat([sample.rows.assign(sensor=s) for s in ("rgb", "depth")])
    low = np.random.default_rng(0).normal(size=(200, 2))
    stretched = vectors * np.random.default_rng(1).uniform(0.1, 10, (200, 1))
    assert fidelity(stretched, low, rows) == pytest.approx(fidelity(vectors, low, rows))


def test_an_offset_between_sensors_survives_standardising():
    sample = latents()
    high = standardised(np.concatenate([sample.blocks["rgb/private"], sample.blocks["depth/private"]]), "private half")
    np.testing.assert_allclose(high.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(high.std(axis=0), 1, atol=1e-9)
    assert np.linalg.norm(high[:100].mean(axis=0) - high[100:].mean(axis=0)) > 1


def test_the_same_seed_gives_the_same_picture():
    high = standardised(latents().blocks["rgb/shared"], "shared half")
    np.testing.assert_array_equal(embed(high, 0, 10, 0.1), embed(high, 0, 10, 0.1))


def test_a_handful_of_points_still_makes_a_picture():
    table = fit_manifolds({"tiny": latents(per_class=1)}, seed=0).table
    assert table["points"].tolist() == [FEWEST_POINTS, FEWEST_POINTS]
    assert table["k"].tolist() == [4, 4]  # below half of the points
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)


def test_too_few_points_are_an_error():
    with pytest.raises(ValueError, match="the shared half of tiny has 8 points; a picture needs at least 10"):
        fit_manifolds({"tiny": latents(per_class=1, classes=4)}, seed=0)


def test_a_collapsed_half_is_named():
    sample = latents()
    flat = {name: np.ones_like(block) if "private" in name else block for name, block in sample.blocks.items()}
    with pytest.raises(ValueError, match="the private half of trained has collapsed"):
        fit_manifolds({"trained": Latents(dict(reversed(flat.items())), sample.rows)}, seed=0)
