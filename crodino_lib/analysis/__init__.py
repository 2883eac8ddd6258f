"""Analyse the latent spaces of trained models: metrics, null models, embeddings."""

from typing import NamedTuple

ANALYSIS_VERSION = 1  # raise it when results kept with runs would be computed differently


class Result(NamedTuple):
    """One number of a metric; NaN where it is not defined."""

    measure: str
    value: float
    sensor: str = ""  # empty where two sensors are compared
    half: str = ""  # empty where the number is about both halves
    target: str = ""  # what a probe predicts: class, modality or a factor
