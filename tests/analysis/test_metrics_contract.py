"""What every metric promises, whatever it measures."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis import retrieval, similarity
from crodino_lib.analysis.extraction import Block, Latents
from crodino_lib.analysis.suite import METRICS
from tests.analysis.factories import made, named, normal

TARGETS = pd.DataFrame({"width": np.arange(80.0)}, index=[f"scene{i}" for i in range(80)])
COMPUTE = {name: metric.compute for name, metric in METRICS.items()}
COMPUTE["factors"] = partial(COMPUTE["factors"], targets=TARGETS, shuffles=2)
NEED_ONE_BASIS = {  # what sensors of different widths have no value of
    "gap": {"gap"},
    "mixing": set(similarity.MIXING),
    "retrieval": set(retrieval.MEASURES),
    "class": {"transfer"},
    "modality": {"modality", "skill"},
}


@pytest.fixture(params=METRICS)
def name(request):
    return request.param


@pytest.mark.parametrize("sensors", [["rgb"], ["rgb", "thermal", "depth"]])
def test_metrics_take_exactly_two_sensors(sensors):
    latents = made(normal(0))
    blocks = {Block(s, half): latents.blocks["rgb", half] for s in sensors for half in ("shared", "private")}
    with pytest.raises(ValueError, match=f"exactly two sensors, found {', '.join(sensors)}$"):
        _ = Latents(blocks, latents.rows).pairs


def test_a_missing_half_is_an_error():
    latents = made(normal(0))
    del latents.blocks["thermal", "private"]
    with pytest.raises(ValueError, match="no block thermal/private, only rgb/shared, thermal/shared, rgb/private"):
        _ = latents.pairs


def test_equal_generators_give_equal_results(name):
    latents = made(normal(0, 24))
    one, again = (named(COMPUTE[name](latents, np.random.default_rng(1))) for _ in range(2))
    assert one == pytest.approx(again, nan_ok=True)


def test_every_unit_of_a_metric_has_values(name):
    for unit in METRICS[name].units:
        latents = made(normal(0, 24), 1, np.full(24, 255), unit) if unit == "image" else made(normal(0, 24), unit=unit)
        values = named(COMPUTE[name](latents, np.random.default_rng(0)))
        assert all(isinstance(value, float) for value in values.values())
        missing = {key.split()[0] for key, value in values.items() if np.isnan(value)}
        assert missing <= {"transfer"}  # of probes near chance


def test_sensors_of_different_widths_have_no_measure_that_compares_their_rows(name):
    latents = made([normal(seed, 24, width, 1)[0] for seed, width in enumerate((6, 4, 6, 4))])
    values = COMPUTE[name](latents, np.random.default_rng(0))
    missing = {result.measure for result in values if np.isnan(result.value)}
    assert missing == NEED_ONE_BASIS.get(name, set())


def test_paired_measures_are_measured(name):
    measures = {result.measure for result in COMPUTE[name](made(normal(0, 24)), np.random.default_rng(0))}
    assert set(METRICS[name].paired) <= measures
