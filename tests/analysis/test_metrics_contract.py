"""What every metric of the laboratory promises, whatever it asks."""

import numpy as np
import pytest

from crodino_lib.analysis import cka, collapse, gap, mixing, retrieval
from crodino_lib.analysis.extraction import Latents
from tests.analysis.factories import made, normal

METRICS = {
    "cka": cka.compute,
    "collapse": collapse.compute,
    "gap": gap.compute,
    "mixing": mixing.compute,
    "retrieval": retrieval.compute,
}
NEED_CLASSES = {  # what whole images have no value of
    "mixing": {"class_purity", "cross_within_class"},
    "retrieval": {"map", "chance_map"},
}
NEED_ONE_BASIS = {  # what sensors of different widths have no value of
    "gap": {"gap", "gap_scaled"},
    "mixing": set(mixing.MEASURES),
    "retrieval": set(retrieval.MEASURES),
}


@pytest.fixture(params=METRICS)
def name(request):
    return request.param


@pytest.mark.parametrize("sensors", [["rgb"], ["rgb", "thermal", "depth"]])
def test_it_is_asked_of_exactly_two_sensors(name, sensors):
    latents = made(normal(0))
    blocks = {f"{s}/{half}": latents.blocks[f"rgb/{half}"] for s in sensors for half in ("shared", "private")}
    with pytest.raises(ValueError, match=f"exactly two sensors, found {', '.join(sensors)}$"):
        METRICS[name](Latents(blocks, latents.rows), 80, np.random.default_rng(0))


def test_the_generator_decides_which_rows_it_uses(name):
    latents = made(normal(0))
    one, again, other = (METRICS[name](latents, 40, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one["rows"] == 40
    assert one["images"] <= 20
    assert one == pytest.approx(again, nan_ok=True)
    assert any(one[key] != other[key] for key in one if key not in ("rows", "images"))


@pytest.mark.parametrize("unit", ["image", "region", "pixel"])
def test_it_answers_for_every_unit(name, unit):
    latents = made(normal(0), 1, np.full(80, 255), unit) if unit == "image" else made(normal(0), unit=unit)
    found = METRICS[name](latents, 80, np.random.default_rng(0))
    assert all(isinstance(value, float) for value in found.values())
    missing = {key.split()[0] for key, value in found.items() if np.isnan(value)}
    assert missing == (NEED_CLASSES.get(name, set()) if unit == "image" else set())


def test_sensors_of_different_widths_have_no_measure_that_lays_rows_beside_each_other(name):
    latents = made([normal(seed, d=width, blocks=1)[0] for seed, width in enumerate((6, 4, 6, 4))])
    found = METRICS[name](latents, 80, np.random.default_rng(0))
    assert {key.split()[0] for key, value in found.items() if np.isnan(value)} == NEED_ONE_BASIS.get(name, set())
