"""Tell which of CroDiNo-KD's losses does what: the main effect of each, over all combinations of the others."""

from collections.abc import Mapping

import pandas as pd

from crodino_lib.methods.registry import parse_method
from crodino_lib.study.gains import Scores

TERMS = ("auxiliary", "overlap", "contrast")  # losses of crodino-kd that a weight of 0 leaves out
EFFECT_COLUMNS = ["student", "term", "effect", "low", "high", "pairs", "seeds"]


def terms_of(name: str) -> frozenset[str] | None:
    """Return the losses that a variant of crodino-kd keeps; None where it differs in more than losses left out."""
    if name.partition(":")[0] != "crodino-kd":
        return None
    off, settings = {f"{term}_weight": 0.0 for term in TERMS}, parse_method(name)[1]
    if not settings.items() <= off.items():
        return None
    return frozenset(term for term in TERMS if f"{term}_weight" not in settings)


def main_effects(scores: Mapping[tuple[str, str], Scores], split: str = "test") -> pd.DataFrame:
    """Return what each loss adds to the mIoU, in points, averaged over the combinations of the others.

    A row per student and loss: ``effect`` is the mean of the differences between the variants with and without it, of
    the same seed and otherwise the same losses (four ``pairs`` in the full design of eight variants), with its interval
    at 95 % (see ``Estimate``). The average over pairs is steadier than one variant less the reference. Pairs of which a
    variant was not run are left out. Source: Fisher, The Design of Experiments, 1935 (factorial designs).
    """
    found = []
    for student, one in ((sensors, one) for (name, sensors), one in scores.items() if name == split):
        design = {terms: row for row in one.counts if not row.settings and (terms := terms_of(row.method)) is not None}
        for term in TERMS:
            pairs = [
                (design[kept], design[kept - {term}]) for kept in design if term in kept and kept - {term} in design
            ]
            if effect := one.mean_difference(pairs):
                found.append((student, term, effect.mean, *effect.interval(), len(pairs), len(effect.values)))
    return pd.DataFrame(found, columns=EFFECT_COLUMNS)
