"""Analyse the latent spaces of trained models: metrics, null models, embeddings."""

from typing import NamedTuple, Self

from pydantic import Field

from crodino_lib.config import StudyConfig, profiles
from crodino_lib.settings import Strict

ANALYSIS_VERSION = 1  # raise it when results kept with runs would be computed differently


class Result(NamedTuple):
    """One number of a metric; NaN where it is not defined."""

    measure: str
    value: float
    sensor: str = ""  # empty where two sensors are compared
    half: str = ""  # empty where the number is about both halves
    target: str = ""  # what a probe predicts: class, modality or a factor


class AnalysisConfig(Strict):
    """Limit the rows, shuffles, scenes, points and fits of the analysis of latents; printed with every result."""

    rows: int = Field(1000, ge=20, description="most rows of any metric")
    shuffles: int = Field(20, ge=1, description="shuffles of factors over scenes behind the chance level of probes")
    scenes: int = Field(100, ge=2, description="most scenes that are segmented with a half replaced")
    points: int = Field(4000, ge=10, description="most points of an embedding, all sensors together")
    fits: int = Field(5, ge=1, description="fits of UMAP, of which the median one is shown")
    seed: int = Field(0, ge=0, description="seed of samples and shuffles, the same for null models")

    @classmethod
    def of(cls, study: StudyConfig, **given: int) -> Self:
        """Return how much the analysis of a study looks at: as given, else as its profile has it."""
        return cls.parse(profiles()[study.profile].get("analysis", {}) | given)
