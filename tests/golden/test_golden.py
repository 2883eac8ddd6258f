"""Compare what training computes with what it computed when ``golden.json`` was recorded, on any CPU."""

import pytest
import torch

from tests.golden.comparison import differences
from tests.golden.recording import (
    DEFAULT,
    TRAINING_VERSION,
    defaults,
    golden,
    names,
    record,
    schedules,
)

RECORD = golden()
REMEDY = (
    "If training is meant to compute something else now, raise TRAINING_VERSION in crodino_lib/config.py and "
    "record anew with `python -m tests.golden.recording`."
)
DEEP = 2  # times as much where the encoder is deep

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="recorded on a CPU; training takes the GPU here")


@pytest.mark.parametrize("case", RECORD["cases"], ids=lambda case: case["case"].replace(" ", "-"))
def test_training_computes_what_is_recorded(case, tmp_path):
    found, slack = record(case, tmp_path), DEEP if case["encoder"] == DEFAULT else 1
    wrong = differences({part: case[part] for part in found}, found, slack)
    assert not wrong, "\n".join([f"{case['case']}: {len(wrong)} values differ", *wrong[:20], REMEDY])


def test_every_method_and_variant_is_recorded():
    assert set(names()) <= {case["case"].split()[0] for case in RECORD["cases"]}, (
        "Record the new ones with `python -m tests.golden.recording new`."
    )


def test_defaults_are_those_recorded():
    assert defaults() == RECORD["defaults"], REMEDY


def test_learning_rates_are_those_recorded():
    for steps, rates in schedules().items():
        assert rates == pytest.approx(RECORD["schedules"][steps], rel=1e-5), REMEDY


def test_the_version_of_training_is_the_one_recorded():
    assert RECORD["training_version"] == TRAINING_VERSION, REMEDY


def test_a_small_change_is_told_and_rounding_is_not():
    (case, *_) = RECORD["cases"]
    (name, value), *_ = case["steps"][0]["terms"].items()
    for factor, told in ((1.05, 1), (1 + 1e-6, 0)):
        changed = {"steps": [{"terms": {name: factor * value}}], "end": {}}
        assert len(differences({"steps": [{"terms": {name: value}}], "end": {}}, changed)) == told
