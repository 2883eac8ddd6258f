"""Compare what training computes with what it computed when ``golden.json`` was recorded, on any CPU."""

import math

import pytest
import torch

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
# Relative tolerances, of each step: another CPU rounds otherwise, a ReLU flips, and every update enlarges that. Found
# by computing with SSE4.1 in place of AVX2, without oneDNN and with two threads, which differ by half of these at most.
TERMS = (1e-4, 1e-3, 3e-3, 1e-2)
GRADIENTS = (3e-2, 5e-2, 1e-1, 2e-1)
UPDATES, ANSWERS = 1e-2, 1e-3  # behind the last step
ALONG = 0.2  # of the update's component along the weights, which is small and mostly decay
DEEP = 2  # times as much where the encoder is deep
BATCHES = 1e-5  # of batches, rates and other things that no network computes
SMALL = 1e-6  # absolute: below it nothing is told apart
SHARE_OF_PIXELS = 0.03  # that may change class

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


def differences(recorded, found, slack=1):
    """List what of two records is not the same within the tolerance of its step, one line each."""
    mine, theirs = dict(leaves(found)), dict(leaves(recorded))
    lines = [f"{' / '.join(path)}: missing" for path in theirs if path not in mine]
    lines += [f"{' / '.join(path)}: not recorded" for path in mine if path not in theirs]
    found = {path: told(path, value, mine[path], slack) for path, value in theirs.items() if path in mine}
    return lines + [f"{' / '.join(path)}: {line}" for path, line in found.items() if line]


def told(path, recorded, found, slack):
    """Say how a value differs from the recorded one; empty where it does not."""
    if "confusion" in path:
        moved = sum(abs(a - b) for a, b in zip(recorded, found, strict=True)) / 2
        allowed = SHARE_OF_PIXELS * sum(recorded)
        return f"{moved:.0f} pixels moved, {allowed:.0f} may" if moved > allowed else ""
    if path[0] == "settings" or not isinstance(recorded, float) or not isinstance(found, float):
        return "" if recorded == found else f"{found!r}, recorded {recorded!r}"
    relative, absolute = tolerance(path, slack)
    if math.isclose(recorded, found, rel_tol=relative, abs_tol=absolute):
        return ""
    off = abs(found - recorded) / max(abs(recorded), 1e-30)
    return f"{found:.7g}, recorded {recorded:.7g} ({off:.1e} off, {relative:.0e} allowed)"


def tolerance(path, slack):
    """Return the relative and absolute tolerance of a value by its place in the record."""
    if path[-1] == "along":
        return ALONG, 2 * SMALL
    if path[0] == "end":
        return (ANSWERS if "answers" in path else UPDATES) * slack, SMALL
    step, kind = (0, path[1]) if path[0] == "fading" else path[1:3]
    if kind == "terms":
        return TERMS[int(step)], SMALL
    return (GRADIENTS[int(step)] * slack if kind in ("gradients", "clipped") else BATCHES), SMALL


def leaves(value, path=()):
    """Yield path and value of everything in nested dicts and lists; a confusion stays whole."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, (*path, name))
    elif isinstance(value, list) and path[-1] != "confusion":
        for position, part in enumerate(value):
            yield from leaves(part, (*path, str(position)))
    else:
        yield path, value
