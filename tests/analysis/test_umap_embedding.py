import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from crodino_lib.analysis.embedding import standardised
from crodino_lib.analysis.embedding_quality import cross_modality_fraction
from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.manifold import (
    FEWEST_POINTS,
    Fits,
    Manifolds,
    disparity,
    fit_manifolds,
    same_regions,
    sweep,
)
from tests.analysis.factories import clustered


def collapsed(sample, half="private"):
    """Each sensor says one thing in ``half``, whatever it sees."""
    flat = {n: np.full_like(b, 1 + n.startswith("rgb")) if half in n else b for n, b in sample.blocks.items()}
    return Latents(flat, sample.rows)


@pytest.fixture(scope="module")
def fitted():
    return fit_manifolds({"trained": clustered(), "dead": collapsed(clustered())}, seeds=[3, 4], n_neighbors=15)


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
    high = standardised(clustered().stacked("shared")[0])
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


def test_pictures_fitted_one_by_one_are_those_fitted_together(fitted):
    models = {"trained": clustered(), "dead": collapsed(clustered())}
    apart = {name: fit_manifolds({"x": found}, seeds=[3, 4], n_neighbors=15) for name, found in models.items()}
    joined = Manifolds.joined(apart)
    for name in ("points", "table", "runs", "counts"):
        pd.testing.assert_frame_equal(getattr(joined, name), getattr(fitted, name))


def test_models_whose_halves_all_collapsed_still_make_tables(tmp_path):
    dead = fit_manifolds({"dead": collapsed(collapsed(clustered()), "shared")}, seeds=[0])
    assert dead.table["points"].tolist() == [0] * 4
    assert len(dead.points) == len(dead.runs) == 0
    assert len(Manifolds.load(dead.save(tmp_path, "dead")).table) == 4


def test_all_regions_are_taken_where_they_fit_and_the_same_ones_of_every_model_elsewhere():
    models = {"a": clustered(seed=0), "b": clustered(seed=1)}
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
        fit_manifolds({"a": clustered(), "b": clustered(per_class=18)})


def test_pictures_that_only_turn_are_the_same_and_unrelated_ones_are_not():
    generator = np.random.default_rng(0)
    picture, other = generator.normal(size=(2, 300, 2))
    turned = 3 * picture @ np.array([[0.0, 1.0], [1.0, 0.0]]) + 7
    assert disparity([picture, turned]) == pytest.approx(0, abs=1e-12)
    assert disparity([picture, other]) > 0.9
    assert disparity([picture, turned, other]) == pytest.approx(2 / 3 * disparity([picture, other]), rel=0.01)
    assert np.isnan(disparity([picture]))


def test_the_sweep_has_a_row_for_every_fit():
    table = sweep(clustered(per_class=4), "shared", seeds=[0, 1], n_neighbors=(5, 10, 99, 200), min_dist=(0.1, 0.5))
    assert list(zip(table["n_neighbors"], table["min_dist"], table["seed"], strict=True)) == [
        (k, distance, seed) for k in (5, 10, 39) for distance in (0.1, 0.5) for seed in (0, 1)
    ]
    assert (table.groupby(["n_neighbors", "min_dist"])["disparity"].nunique() == 1).all()
    assert table["disparity"].nunique() == 6
    assert table["trustworthiness"].nunique() > 6


def test_a_sweep_of_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="half = 'private' cannot be swept, it has collapsed: all vectors of a sensor"):
        sweep(collapsed(clustered()), "private")
    with pytest.raises(ValueError, match="half 'sharde' does not exist"):
        sweep(clustered(), "sharde")


def test_a_handful_of_points_still_makes_a_picture():
    table = fit_manifolds({"tiny": clustered(per_class=1)}, seeds=[0]).table
    assert table["points"].tolist() == [FEWEST_POINTS] * 4
    assert table["k"].tolist() == [4] * 4  # below half of the points
    assert np.isfinite(table["trustworthiness"]).all()


def test_too_few_points_and_no_seeds_are_errors():
    with pytest.raises(ValueError, match="tiny has 8 points; a picture needs at least 10"):
        fit_manifolds({"tiny": clustered(per_class=1, classes=4)})
    with pytest.raises(ValueError, match="seeds is empty"):
        fit_manifolds({"trained": clustered()}, seeds=[])


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
