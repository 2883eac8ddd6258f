"""Main effects of CroDiNo-KD's losses over the combinations of the others."""

import numpy as np
import pytest

from crodino_lib.methods.registry import VARIANTS
from crodino_lib.study.ablations import TERMS, main_effects, terms_of
from crodino_lib.study.dials import DIALS
from crodino_lib.study.gains import scores_of
from tests.study.finished import runs

DESIGN = {  # variant -> which of auxiliary, overlap and contrast it keeps
    "crodino_kd": (1, 1, 1),
    "crodino_kd__no_contrast": (1, 1, 0),
    "crodino_kd__no_disentanglement": (1, 0, 1),
    "crodino_kd__no_auxiliary": (0, 1, 1),
    "crodino_kd__only_contrast": (0, 0, 1),
    "crodino_kd__only_disentanglement": (0, 1, 0),
    "crodino_kd__plain": (1, 0, 0),
    "crodino_kd__none": (0, 0, 0),
}


def name_of(argument):
    return argument.replace("_", "-").replace("--", ":")


def test_the_eight_variants_keep_every_combination_of_losses():
    for variant, kept in DESIGN.items():
        assert terms_of(name_of(variant)) == {term for term, is_kept in zip(TERMS, kept, strict=True) if is_kept}
    others = {f"crodino-kd:{variant}" for variant in VARIANTS["crodino-kd"]} - set(map(name_of, DESIGN))
    assert all(terms_of(name) is None for name in [*others, "kd", "crodino-kd-rec", "crodino-kd (queue=8)"])
    assert set(map(name_of, DESIGN)) <= set(DIALS["ablation"].settings["methods"])


def test_a_main_effect_is_the_mean_difference_over_all_pairs():
    # mIoU = 40 + seed + 1 auxiliary - 2 overlap + 4 contrast - 3 contrast x overlap
    values = {v: [40 + s + a - 2 * o + 4 * c - 3 * c * o for s in range(3)] for v, (a, o, c) in DESIGN.items()}
    table = main_effects(scores_of(runs(baseline=[30, 31, 32], **values)))
    assert list(table.student) == ["rgb"] * 3
    assert dict(zip(table.term, table.effect, strict=True)) == pytest.approx(
        {"auxiliary": 1, "overlap": -2 - 1.5, "contrast": 4 - 1.5}
    )
    assert (table.pairs == 4).all()
    assert (table.seeds == 3).all()
    np.testing.assert_allclose(table[["low", "high"]], np.stack([table.effect] * 2, axis=1), atol=1e-6)


def test_a_pair_without_one_of_its_variants_is_left_out_and_no_pair_is_no_row():
    values = {name: [40, 41, 42] for name in ("crodino_kd", "crodino_kd__no_contrast", "crodino_kd__plain")}
    table = main_effects(scores_of(runs(**values)))
    assert dict(zip(table.term, table.pairs, strict=True)) == {"overlap": 1, "contrast": 1}
    assert main_effects(scores_of(runs(kd=[1, 2, 3]))).empty
