import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis.alignment import class_alignment
from crodino_lib.analysis.extraction import Latents

E1, E2 = np.eye(2, dtype=np.float32)


def latents(rgb, depth, classes=(0, 0, 1, 1)):
    rows = pd.DataFrame({"image": list("abcd"), "class": classes, "name": [f"c{k}" for k in classes], "cells": 1.0})
    return Latents({"rgb/shared": np.stack(rgb), "depth/shared": np.stack(depth)}, rows)


def test_one_direction_per_class_in_both_sensors_is_one_across_and_zero_for_others():
    table = class_alignment(latents([E1, E1, E2, E2], [3 * E1, E1, 2 * E2, E2])).loc["shared"]
    assert table["across, same class"] == pytest.approx(1)
    assert table["across, other class"] == pytest.approx(0)


def test_swapped_directions_are_told_across_and_not_within():
    table = class_alignment(latents([E1, E1, E2, E2], [E2, E2, E1, E1])).loc["shared"]
    assert table["across, same class"] == pytest.approx(0)
    assert table["across, other class"] == pytest.approx(1)
    assert table["within, same class"] == pytest.approx(1)


def test_a_region_is_not_compared_with_itself_within_a_sensor():
    table = class_alignment(latents([E1, E2, E1, E2], [E1, E2, E1, E2])).loc["shared"]
    assert table["within, same class"] == pytest.approx(0)
