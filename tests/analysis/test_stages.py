"""Alignment per stage: known answers, and the places of a CSK-Net."""

import numpy as np
import pytest
import torch

from crodino_lib.analysis.probes import modality_probe
from crodino_lib.analysis.stages import Pair, pairs_of_fusion, pairs_of_strangers, stage_alignment
from tests.methods.conftest import *  # noqa: F403  (the fixture that builds methods)


def vectors(seed, n=300, d=8):
    return np.random.default_rng(seed).normal(size=(n, d))


IMAGES = np.arange(300) // 10


def test_a_probe_tells_what_differs_and_guesses_where_nothing_does():
    assert modality_probe(vectors(0), vectors(1) + 4, IMAGES) == pytest.approx(1, abs=0.01)
    assert modality_probe(vectors(0), vectors(1), IMAGES) == pytest.approx(0.5, abs=0.08)


def test_no_image_is_both_fitted_and_judged():
    """Every image has its own mark that tells its sensor: of use only to a probe that has seen the image."""
    marks = np.random.default_rng(0).normal(size=(30, 200)) * 10
    assert modality_probe(vectors(0, d=200) + marks[IMAGES], vectors(1, d=200) - marks[IMAGES], IMAGES) < 0.9
    with pytest.raises(ValueError, match="at least 2 images, found 1"):
        modality_probe(vectors(0), vectors(1), np.zeros(300))


def test_equal_maps_have_cka_one_and_cannot_be_told_apart(toy_scenes, toy_card):
    def same(rgb, depth):
        pooled = torch.nn.functional.avg_pool2d(rgb, 8)
        yield Pair(0, "alone", pooled, pooled)

    row = stage_alignment(same, toy_scenes, toy_card, ("rgb", "depth"), seed=0).iloc[0]
    assert row.cka == pytest.approx(1, abs=1e-6)
    assert row.probe <= 0.55
    limited = stage_alignment(same, toy_scenes, toy_card, ("rgb", "depth"), seed=0, n=20)
    assert limited.regions.tolist() == [20]


def test_a_csk_net_is_seen_before_and_after_exchange_and_behind_its_gates(build, toy_scenes, toy_card):
    network = build("csk-net").eval().students["rgb+depth"]
    table = stage_alignment(pairs_of_fusion(network), toy_scenes, toy_card, ("rgb", "depth"), seed=0, n=40)
    assert table.groupby("place").stage.apply(list).to_dict() == {
        "before exchange": [0, 1, 2, 3, 4],
        "after exchange": [0, 1, 2, 3, 4],
        "after gate": [1, 4],
    }
    wide = table.pivot_table(index="stage", columns="place", values="cka")
    shallow, deep = wide.loc[0:2], wide.loc[3:4]
    assert np.allclose(shallow["before exchange"], shallow["after exchange"], atol=1e-6)  # nothing is exchanged there
    assert not np.allclose(deep["before exchange"], deep["after exchange"], atol=1e-3)


def test_strangers_are_seen_at_every_stage(build, toy_scenes, toy_card):
    networks = [build("baseline", (sensor,)).eval().students[sensor] for sensor in ("rgb", "depth")]
    table = stage_alignment(pairs_of_strangers(*networks), toy_scenes, toy_card, ("rgb", "depth"), seed=0, n=40)
    assert table.stage.tolist() == [0, 1, 2, 3, 4]
    assert set(table.place) == {"alone"}
