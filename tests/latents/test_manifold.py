import numpy as np
import pandas as pd
import pytest
from scipy.sparse.linalg import ArpackNoConvergence
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_distances

from crodino_lib.latents.extraction import Latents
from crodino_lib.latents.fidelity import cross_modality_fraction
from crodino_lib.latents.manifold import (
    FEWEST_POINTS,
    Fits,
    Manifolds,
    condition,
    disparity,
    embed,
    fit_manifolds,
    principal,
    same_regions,
    standardised,
    sweep,
)

SENSORS = np.repeat(["rgb", "depth"], 20)


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


def collapsed(sample, half="private"):
    """Each sensor says one thing in ``half``, whatever it sees."""
    flat = {n: np.full_like(b, 1 + n.startswith("rgb")) if half in n else b for n, b in sample.blocks.items()}
    return Latents(flat, sample.rows)


@pytest.fixture(scope="module")
def fitted():
    return fit_manifolds({"trained": latents(), "dead": collapsed(latents())}, seeds=[3, 4], n_neighbors=15)


def umap(fitted, model="trained"):
    found = fitted.table
    return found[(found["embedding"] == "UMAP") & (found["model"] == model)].set_index("half")


def test_every_point_is_named_in_both_embeddings(fitted):
    points = fitted.points[fitted.points["model"] == "trained"]
    assert points.groupby(["half", "embedding", "sensor"]).size().to_dict() == {
        (half, embedding, sensor): 100
        for half in ("shared", "private")
        for embedding in ("UMAP", "PCA")
        for sensor in ("rgb", "depth")
    }
    assert np.isfinite(fitted.points[["x", "y"]]).all(axis=None)


def test_the_picture_of_clusters_can_be_trusted_and_is_stable(fitted):
    for measure in ("trustworthiness", "continuity"):
        assert (umap(fitted)[measure] > 0.8).all()
    assert (umap(fitted)["rnx_auc"] > 0.3).all()
    assert umap(fitted)["disparity"].between(0, 1, inclusive="neither").all()
    assert (umap(fitted)["points"] == 200).all()


def test_shared_halves_mix_and_private_halves_do_not(fitted):
    shared, private = umap(fitted).loc[["shared", "private"]].to_dict("records")
    for space in ("hd", "2d"):
        assert shared[f"cross_modality_{space}"] > 0.4
        assert shared[f"class_purity_{space}"] > 0.9
        assert private[f"cross_modality_{space}"] < 0.05


def test_of_all_runs_the_median_is_published_with_its_own_picture(fitted):
    for half, told in umap(fitted).iterrows():
        runs = fitted.runs[(fitted.runs["model"] == "trained") & (fitted.runs["half"] == half)]
        assert runs["seed"].tolist() == [3, 4]
        assert told["seeds"] == 2
        worst = runs.loc[runs["trustworthiness"].idxmin()]  # of two medians the lower
        assert (told["seed"], told["trustworthiness"]) == (worst["seed"], worst["trustworthiness"])
        points = fitted.points.query("model == 'trained' and half == @half and embedding == 'UMAP'")
        mixed = cross_modality_fraction(points[["x", "y"]].to_numpy(), points["sensor"], 15)
        assert mixed == told["cross_modality_2d"]


@pytest.mark.parametrize(("trust", "median"), [([0.5, 0.9, 0.7], 2), ([0.9, 0.5, 0.8, 0.7], 3), ([0.4], 0)])
def test_the_median_is_neither_the_prettiest_nor_the_worst(trust, median):
    assert Fits([], pd.DataFrame({"trustworthiness": trust})).median == median


def test_the_second_opinion_is_the_first_two_principal_components(fitted):
    points = fitted.points.query("model == 'trained' and half == 'shared' and embedding == 'PCA'")
    high = standardised(latents().stacked("shared")[0])
    expected = PCA(2, svd_solver="full").fit_transform(high)
    np.testing.assert_allclose(np.abs(points[["x", "y"]]), np.abs(expected), rtol=1e-6, atol=1e-9)
    told = fitted.table.query("model == 'trained' and embedding == 'PCA'")
    assert told["seed"].isna().all()
    assert (told["trustworthiness"] > 0.6).all()


def test_a_collapsed_half_is_told_and_stops_no_other(fitted):
    told = umap(fitted, "dead")
    assert told.loc["private", "says"] == "collapsed: all vectors of a sensor are equal"
    assert told.loc["private", "points"] == 0
    assert np.isnan(told.loc["private", "trustworthiness"])
    assert told.loc["shared", "trustworthiness"] == umap(fitted).loc["shared", "trustworthiness"]
    assert told.loc["shared", "says"] == ""
    assert set(fitted.points[fitted.points["model"] == "dead"]["half"]) == {"shared"}


def test_models_whose_halves_all_collapsed_still_make_tables(tmp_path):
    dead = fit_manifolds({"dead": collapsed(collapsed(latents()), "shared")}, seeds=[0])
    assert dead.table["points"].tolist() == [0] * 4
    assert len(dead.points) == len(dead.runs) == 0
    assert len(Manifolds.load(dead.save(tmp_path, "dead")).table) == 4


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        (np.ones((40, 3)), "collapsed: all vectors are equal"),
        (np.where(SENSORS == "rgb", 1.0, -1.0)[:, None] * np.ones(3), "collapsed: all vectors of a sensor are equal"),
        (1000 + 1e-5 * np.random.default_rng(0).normal(size=(40, 3)), "collapsed: all vectors are equal"),
        (np.zeros((40, 3)), "collapsed: all vectors are equal"),
        (np.r_[np.full((2, 3), np.nan), np.ones((38, 3))], "collapsed: 2 of 40 vectors are not finite"),
        (1 + 1e-3 * np.random.default_rng(0).normal(size=(40, 3)), "nearly collapsed: vectors deviate by 0.1% of"),
        (np.random.default_rng(0).normal(size=(40, 3)), ""),
    ],
)
def test_the_condition_of_a_half_is_told_in_words(vectors, says):
    told = condition(vectors, SENSORS)
    assert told.startswith(says)
    assert bool(told) == bool(says)


def test_one_sensor_that_collapsed_is_still_drawn():
    vectors = np.random.default_rng(0).normal(size=(40, 3))
    vectors[:20] = 0
    assert condition(vectors, SENSORS) == ""


def test_channels_that_vary_by_rounding_alone_are_left_out():
    alive = np.random.default_rng(0).normal(size=(40, 1))
    dead = np.float32(100) + np.linspace(0, 1e-5, 40)[:, None]
    assert standardised(np.hstack([alive, dead, alive])).shape == (40, 2)


def test_an_offset_between_sensors_survives_standardising():
    high = standardised(latents().stacked("private")[0])
    np.testing.assert_allclose(high.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(high.std(axis=0), 1, atol=1e-9)
    assert np.linalg.norm(high[:100].mean(axis=0) - high[100:].mean(axis=0)) > 1


def test_a_start_that_failed_is_told_and_still_makes_a_picture(monkeypatch):
    def fails(*_, **__):
        raise ArpackNoConvergence("no eigenvectors", np.zeros(0), np.zeros((0, 0)))

    high = cosine_distances(np.random.default_rng(0).normal(size=(60, 5)))
    assert embed(high, 0, 10, 0.1)[1] == ""
    monkeypatch.setattr("scipy.sparse.linalg.eigsh", fails)
    low, says = embed(high, 0, 10, 0.1)
    assert says == "UMAP started at random, its spectral start failed"
    assert np.isfinite(low).all()


def test_a_half_of_few_different_vectors_still_makes_a_picture():
    generator = np.random.default_rng(0)
    few = generator.normal(size=(4, 20))[np.arange(40) % 4]
    low, _ = embed(cosine_distances(standardised(few)), 0, 30, 0.1)
    assert np.isfinite(low).all()
    assert principal(few[:, :1]).shape == (40, 2)


def test_the_same_seed_gives_the_same_picture():
    high = cosine_distances(standardised(latents().blocks["rgb/shared"]))
    np.testing.assert_array_equal(embed(high, 0, 10, 0.1)[0], embed(high, 0, 10, 0.1)[0])


def test_all_regions_are_taken_where_they_fit_and_the_same_ones_of_every_model_elsewhere():
    models = {"a": latents(seed=0), "b": latents(seed=1)}
    sampled, counts = same_regions(models, 200, 0)
    assert len(sampled["a"]) == 100
    assert counts["taken"].tolist() == counts["available"].tolist() == [20] * 5
    sampled, counts = same_regions(models, 100, 0)
    assert sampled["a"].rows["image"].tolist() == sampled["b"].rows["image"].tolist()
    assert len(sampled["a"]) == counts["taken"].sum() == 50
    assert counts["available"].sum() == 100
    assert counts["name"].tolist() == [f"c{k}" for k in range(5)]
    other, _ = same_regions(models, 100, 1)
    assert other["a"].rows["image"].tolist() != sampled["a"].rows["image"].tolist()


def test_models_that_saw_different_regions_are_refused():
    with pytest.raises(ValueError, match="b saw 90 regions that are not the 100 of a"):
        fit_manifolds({"a": latents(), "b": latents(per_class=18)})


def test_pictures_that_only_turn_are_the_same_and_unrelated_ones_are_not():
    generator = np.random.default_rng(0)
    picture, other = generator.normal(size=(2, 300, 2))
    turned = 3 * picture @ np.array([[0.0, 1.0], [1.0, 0.0]]) + 7
    assert disparity([picture, turned]) == pytest.approx(0, abs=1e-12)
    assert disparity([picture, other]) > 0.9
    assert disparity([picture, turned, other]) == pytest.approx(2 / 3 * disparity([picture, other]), rel=0.01)
    assert np.isnan(disparity([picture]))


def test_the_sweep_has_a_row_for_every_fit():
    table = sweep(latents(per_class=4), "shared", seeds=[0, 1], n_neighbors=(5, 10, 99, 200), min_dist=(0.1, 0.5))
    assert list(zip(table["n_neighbors"], table["min_dist"], table["seed"], strict=True)) == [
        (k, distance, seed) for k in (5, 10, 39) for distance in (0.1, 0.5) for seed in (0, 1)
    ]
    assert (table.groupby(["n_neighbors", "min_dist"])["disparity"].nunique() == 1).all()
    assert table["disparity"].nunique() == 6
    assert table["trustworthiness"].nunique() > 6


def test_a_sweep_of_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="half = 'private' cannot be swept, it has collapsed: all vectors of a sensor"):
        sweep(collapsed(latents()), "private")
    with pytest.raises(ValueError, match="half 'sharde' does not exist"):
        sweep(latents(), "sharde")


def test_a_handful_of_points_still_makes_a_picture():
    table = fit_manifolds({"tiny": latents(per_class=1)}, seeds=[0]).table
    assert table["points"].tolist() == [FEWEST_POINTS] * 4
    assert table["k"].tolist() == [4] * 4  # below half of the points
    assert np.isfinite(table["trustworthiness"]).all()


def test_too_few_points_and_no_seeds_are_errors():
    with pytest.raises(ValueError, match="tiny has 8 points; a picture needs at least 10"):
        fit_manifolds({"tiny": latents(per_class=1, classes=4)})
    with pytest.raises(ValueError, match="seeds is empty"):
        fit_manifolds({"trained": latents()}, seeds=[])


def test_what_is_saved_is_loaded_again(fitted, tmp_path):
    path = fitted.save(tmp_path / "new", "manifolds")
    assert path == tmp_path / "new" / "manifolds.npz"
    found = Manifolds.load(path)
    for name in ("points", "table", "runs", "counts"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(fitted, name))
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_another_file_is_not_taken_for_manifolds(tmp_path):
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match=r"other.npz has no points, table, runs, counts: not saved manifolds"):
        Manifolds.load(tmp_path / "other.npz")
