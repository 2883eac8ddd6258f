from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse.linalg import ArpackNoConvergence
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_distances

from crodino_lib.analysis import umap_embedding
from crodino_lib.analysis.embedding_quality import cross_modality_fraction
from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.umap_embedding import (
    FEWEST_POINTS,
    Embeddings,
    describe_collapse,
    disparity,
    fit_embeddings,
    median_fit,
    principal_components,
    sample_points,
    standardise,
    umap_2d,
)
from tests.analysis.factories import clustered

SENSORS = np.repeat(["rgb", "depth"], 20)


def collapsed(sample, *halves):
    """Each sensor has one vector for all inputs in ``halves``."""
    flat = {b: np.full_like(v, 1 + (b.sensor == "rgb")) if b.half in halves else v for b, v in sample.blocks.items()}
    return Latents(flat, sample.rows)


@pytest.fixture(scope="module")
def fitted():
    return fit_embeddings(clustered(), seeds=[3, 4])


@pytest.fixture(scope="module")
def dead():
    return fit_embeddings(collapsed(clustered(), "private"), seeds=[3])


def umap(fitted):
    return fitted.table[fitted.table["embedding"] == "UMAP"].set_index("half")


def test_every_point_is_named_in_both_embeddings(fitted):
    assert fitted.points.groupby(["half", "embedding", "sensor"]).size().to_dict() == {
        (half, embedding, sensor): 100
        for half in ("shared", "private")
        for embedding in ("UMAP", "PCA")
        for sensor in ("rgb", "depth")
    }
    assert np.isfinite(fitted.points[["x", "y"]]).all(axis=None)


def test_the_embedding_of_clusters_can_be_trusted_and_is_stable(fitted):
    for measure in ("trustworthiness", "continuity"):
        assert (umap(fitted)[measure] > 0.8).all()
    assert (umap(fitted)["rnx_auc"] > 0.3).all()
    assert umap(fitted)["disparity"].between(0, 1, inclusive="neither").all()
    assert (umap(fitted)[["points", "seeds"]] == [200, 2]).all(axis=None)


def test_shared_halves_mix_and_private_halves_do_not(fitted):
    shared, private = umap(fitted).loc[["shared", "private"]].to_dict("records")
    for space in ("hd", "2d"):
        assert shared[f"cross_modality_{space}"] > 0.4
        assert shared[f"class_purity_{space}"] > 0.9
        assert private[f"cross_modality_{space}"] < 0.05


def test_the_points_are_those_of_the_fit_that_the_table_describes(fitted):
    for half, row in umap(fitted).iterrows():
        points = fitted.points[(fitted.points["half"] == half) & (fitted.points["embedding"] == "UMAP")]
        mixed = cross_modality_fraction(points[["x", "y"]].to_numpy(), points["sensor"], 15)
        assert mixed == row["cross_modality_2d"]
        assert row["seed"] in (3, 4)


@pytest.mark.parametrize(("trust", "median"), [([0.5, 0.9, 0.7], 2), ([0.9, 0.5, 0.8, 0.7], 3), ([0.4], 0)])
def test_the_median_is_neither_the_prettiest_nor_the_worst(monkeypatch, trust, median):
    monkeypatch.setattr(umap_embedding, "umap_2d", lambda distances, seed: (np.eye(3, 2) * trust[seed], ""))
    reference = SimpleNamespace(quality=lambda low: {"trustworthiness": low[0, 0]})
    low, quality = median_fit(reference, np.eye(3), list(range(len(trust))))
    assert quality["seed"] == median
    assert low[0, 0] == trust[median]


def test_the_second_opinion_is_the_first_two_principal_components(fitted):
    points = fitted.points.query("half == 'shared' and embedding == 'PCA'")
    expected = PCA(2, svd_solver="full").fit_transform(standardise(clustered().stacked("shared")[0]))
    np.testing.assert_allclose(np.abs(points[["x", "y"]]), np.abs(expected), rtol=1e-6, atol=1e-9)
    table = fitted.table.query("embedding == 'PCA'")
    assert table["seed"].isna().all()
    assert (table["trustworthiness"] > 0.6).all()


def test_a_collapsed_half_has_a_remark_and_stops_no_other(dead):
    table = umap(dead)
    assert table.loc["private", "remark"] == "collapsed: all vectors of a sensor are equal"
    assert table.loc["private", "points"] == 0
    assert np.isnan(table.loc["private", "trustworthiness"])
    assert table.loc["shared", "remark"] == ""
    assert set(dead.points["half"]) == {"shared"}


def test_models_are_joined_by_name_saved_and_loaded(fitted, dead, tmp_path):
    both = Embeddings.concat({"trained": fitted, "dead": dead})
    assert both.table["model"].tolist() == ["trained"] * 4 + ["dead"] * 4
    path = both.save(tmp_path / "new" / "embeddings.npz")
    for table, again in zip(both, Embeddings.load(path), strict=True):
        pd.testing.assert_frame_equal(again, table)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_a_model_whose_halves_all_collapsed_still_has_tables(tmp_path):
    nothing = fit_embeddings(collapsed(clustered(), "shared", "private"), seeds=[0])
    assert nothing.table["points"].tolist() == [0] * 4
    assert len(nothing.points) == 0
    assert len(Embeddings.load(nothing.save(tmp_path / "dead.npz")).table) == 4


def test_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match=r"other.npz has no points, table: not saved embeddings"):
        Embeddings.load(tmp_path / "other.npz")


def test_all_rows_are_taken_where_they_fit_and_the_same_ones_of_every_model_elsewhere():
    models = [clustered(seed=0), clustered(seed=1)]
    assert len(sample_points(models[0], 200, 0)) == 100
    one, other = (sample_points(model, 100, 0).rows["image"].tolist() for model in models)
    assert one == other
    assert len(one) == 50
    assert sample_points(models[0], 100, 1).rows["image"].tolist() != one


def test_embeddings_that_only_turn_are_the_same_and_unrelated_ones_are_not():
    generator = np.random.default_rng(0)
    points, other = generator.normal(size=(2, 300, 2))
    turned = 3 * points @ np.array([[0.0, 1.0], [1.0, 0.0]]) + 7
    assert disparity([points, turned]) == pytest.approx(0, abs=1e-12)
    assert disparity([points, other]) > 0.9
    assert disparity([points, turned, other]) == pytest.approx(2 / 3 * disparity([points, other]), rel=0.01)
    assert np.isnan(disparity([points]))


def test_a_handful_of_points_still_has_an_embedding():
    table = fit_embeddings(clustered(per_class=1), seeds=[0]).table
    assert table["points"].tolist() == [FEWEST_POINTS] * 4
    assert table["k"].tolist() == [4] * 4  # below half of the points
    assert np.isfinite(table["trustworthiness"]).all()


def test_too_few_points_and_no_seeds_are_errors():
    with pytest.raises(ValueError, match="there are 8 points; an embedding needs 10"):
        fit_embeddings(clustered(per_class=1, classes=4))
    with pytest.raises(ValueError, match="seeds is empty"):
        fit_embeddings(clustered(), seeds=[])


@pytest.mark.parametrize(
    ("vectors", "remark"),
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
def test_a_collapse_is_described(vectors, remark):
    description = describe_collapse(vectors, SENSORS)
    assert description.startswith(remark)
    assert bool(description) == bool(remark)


def test_a_half_of_which_one_sensor_collapsed_is_embedded():
    vectors = np.random.default_rng(0).normal(size=(40, 3))
    vectors[:20] = 0
    assert describe_collapse(vectors, SENSORS) == ""


def test_standardising_keeps_the_offset_between_sensors_and_leaves_out_channels_of_rounding():
    high = standardise(clustered().stacked("private")[0])
    np.testing.assert_allclose(high.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(high.std(axis=0), 1, atol=1e-9)
    assert np.linalg.norm(high[:100].mean(axis=0) - high[100:].mean(axis=0)) > 1
    alive = np.random.default_rng(0).normal(size=(40, 1))
    dead = np.float32(100) + np.linspace(0, 1e-5, 40)[:, None]
    assert standardise(np.hstack([alive, dead, alive])).shape == (40, 2)


def test_a_failed_start_has_a_remark_and_still_an_embedding(monkeypatch):
    def fails(*_, **__):
        raise ArpackNoConvergence("no eigenvectors", np.zeros(0), np.zeros((0, 0)))

    distances = cosine_distances(np.random.default_rng(0).normal(size=(60, 5)))
    assert umap_2d(distances, 0)[1] == ""
    monkeypatch.setattr("scipy.sparse.linalg.eigsh", fails)
    low, remark = umap_2d(distances, 0)
    assert remark == "UMAP started at random, its spectral start failed"
    assert np.isfinite(low).all()


def test_few_different_vectors_have_an_embedding_and_equal_seeds_give_equal_ones():
    few = np.random.default_rng(0).normal(size=(4, 20))[np.arange(40) % 4]
    one, again = (umap_2d(cosine_distances(standardise(few)), 0)[0] for _ in range(2))
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, again)
    assert principal_components(few[:, :1]).shape == (40, 2)


def test_torch_keeps_its_threads():
    """What is trained after an embedding is what is trained before it, to the last bit."""
    umap_2d(1 - np.eye(20), seed=0)
    assert torch.get_num_threads() == 1
