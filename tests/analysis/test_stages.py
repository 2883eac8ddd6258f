"""Alignment per stage: known answers, and the places of a CSK-Net."""

import numpy as np
import pytest
import torch

from crodino_lib.analysis.stages import Pair, pairs_of_baselines, pairs_of_fusion, stage_alignment
from crodino_lib.methods.registry import build_method
from tests.methods.conftest import run_of

SENSORS = ("rgb", "depth")


def test_equal_maps_have_cka_one_and_cannot_be_distinguished(toy_scenes, toy_card):
    def same(rgb, depth):
        pooled = torch.nn.functional.avg_pool2d(rgb, 8)
        yield Pair(0, "alone", pooled, pooled)

    row = stage_alignment(same, toy_scenes, toy_card, SENSORS, seed=0).iloc[0]
    assert row.cka == pytest.approx(1, abs=1e-6)
    assert row.probe <= 0.55
    limited = stage_alignment(same, toy_scenes, toy_card, SENSORS, seed=0, n=20)
    assert limited.regions.tolist() == [20]


def test_a_csk_net_is_seen_before_and_after_exchange_and_behind_its_gates(toy_scenes, toy_card):
    network = build_method(run_of("csk-net", SENSORS), toy_card).eval().students["rgb+depth"]
    table = stage_alignment(pairs_of_fusion(network), toy_scenes, toy_card, SENSORS, seed=0, n=40)
    assert table.groupby("place").stage.apply(list).to_dict() == {
        "before exchange": [0, 1, 2, 3, 4],
        "after exchange": [0, 1, 2, 3, 4],
        "after gate": [1, 4],
    }
    wide = table.pivot_table(index="stage", columns="place", values="cka")
    shallow, deep = wide.loc[0:2], wide.loc[3:4]
    assert np.allclose(shallow["before exchange"], shallow["after exchange"], atol=1e-6)  # nothing is exchanged there
    assert not np.allclose(deep["before exchange"], deep["after exchange"], atol=1e-3)


def test_baselines_are_compared_at_every_stage(toy_scenes, toy_card):
    networks = [build_method(run_of("baseline", (s,)), toy_card).eval().students[s] for s in SENSORS]
    table = stage_alignment(pairs_of_baselines(*networks), toy_scenes, toy_card, SENSORS, seed=0, n=40)
    assert table.stage.tolist() == [0, 1, 2, 3, 4]
    assert set(table.place) == {"alone"}
