"""Ask whether numbers about latents predict gains: rank correlations over many models, with null models beside them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from crodino_lib.analysis import AnalysisConfig
from crodino_lib.analysis.latent_analysis import LatentAnalysis
from crodino_lib.analysis.trained_models import TrainedModel, find_models
from crodino_lib.study.runs import Run
from crodino_lib.study.statistics import interval
from crodino_lib.study.study import Study
from crodino_lib.study.tables import run_table


class Score(NamedTuple):
    """A number about a model's latents, as ``LatentAnalysis.compare`` has it: the mean over sensors where each has one.

    ``disentangled`` is 1 where a higher value means a split as the methods want it, -1 where a lower one does, 0 where
    they want neither.
    """

    unit: str
    measure: str
    half: str
    disentangled: int
    title: str


SCORES = {
    "retrieval": Score("image", "mrr", "shared", 1, "same scene found across sensors, shared half"),
    "retrieval private": Score("image", "mrr", "private", -1, "same scene found across sensors, private half"),
    "cka": Score("region", "cka", "shared", 1, "CKA of both sensors, shared half"),
    "cka private": Score("region", "cka", "private", -1, "CKA of both sensors, private half"),
    "cka halves": Score("region", "cka_halves", "", -1, "CKA of the halves of one sensor"),
    "gap": Score("region", "gap", "shared", -1, "gap between sensors, shared half"),
    "mixing": Score("region", "cross_within_class", "shared", 1, "neighbours from the other sensor, shared half"),
    "modality": Score("region", "modality", "shared", -1, "probe tells the sensor, shared half"),
    "modality private": Score("region", "modality", "private", 1, "probe tells the sensor, private half"),
    "transfer": Score("region", "transfer", "shared", 1, "class probe serves the other sensor, shared half"),
    "transfer private": Score("region", "transfer", "private", -1, "class probe serves the other sensor, private half"),
    "class": Score("region", "class", "shared", 1, "class probe, shared half"),
    "class private": Score("region", "class", "private", -1, "class probe, private half"),
    "rank": Score("region", "effective_rank", "shared", 0, "effective rank, shared half"),
    "rank private": Score("region", "effective_rank", "private", 0, "effective rank, private half"),
    "mig": Score("all", "block_mig", "", 1, "block MIG"),
    "disentanglement": Score("all", "disentanglement", "", 1, "block DCI, disentanglement"),
    "completeness": Score("all", "completeness", "", 1, "block DCI, completeness"),
    "swap": Score("image", "lost_swap", "shared", -1, "mIoU lost with the other sensor's shared half"),
    "swap private": Score("image", "lost_swap", "private", 1, "mIoU lost with the other sensor's private half"),
    "mean": Score("image", "lost_mean", "shared", 0, "mIoU lost without the shared half"),
    "mean private": Score("image", "lost_mean", "private", 0, "mIoU lost without the private half"),
}
NULLS = ("untrained", "shuffled_channels")  # what a half is replaced by is measured of trained networks alone
LIMITS = AnalysisConfig(rows=500, shuffles=1, scenes=32)  # of each model: here are many
FEWEST_MODELS = 10  # of a rank correlation
DRAWS = 1000
GAINS = {"gain": "baseline", "cross-modal gain": "self-training"}
KEYS = ["study", "model", "variant", "method", "seed"]
COLUMNS = [*KEYS, "null", *GAINS, *SCORES]


def scores_of_studies(studies: Iterable[Study], config: AnalysisConfig = LIMITS) -> pd.DataFrame:
    """Return ``latent_scores`` of the finished models of several studies but baselines, whose gain is zero."""
    tables = []
    for study in studies:
        if models := [model for model in find_models(study) if model.variant != "baseline"]:
            tables.append(latent_scores(LatentAnalysis(study, config=config), models))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def latent_scores(analysis: LatentAnalysis, models: Iterable[TrainedModel]) -> pd.DataFrame:
    """Return the scores and the gains of the models of a study, a row per model and null model.

    Columns: ``study``, ``model``, ``variant``, ``method``, ``seed``, ``null`` (``value`` is the model itself), those of
    ``GAINS``, the mean over sensors in points of mIoU (NaN without that control of the same seed), and ``SCORES``.
    """
    models = list(models)
    table, columns = analysis.compare(models), ["value", *NULLS]
    scores = {}
    for name, score in SCORES.items():
        own = table[(table[["unit", "measure", "half"]] == [score.unit, score.measure, score.half]).all(axis=1)]
        scores[name] = own.groupby("model")[columns].mean().stack()
    gains = _gains(analysis.study.finished()[0], models, analysis.split)
    wide = pd.DataFrame(scores).rename_axis(["model", "null"]).reset_index()
    named = {m.name: (analysis.study.config.name, m.name, m.variant, m.method, m.seed) for m in models}
    return pd.DataFrame(named.values(), columns=KEYS).merge(gains).merge(wide)[COLUMNS]


def _gains(runs: list[Run], models: list[TrainedModel], split: str) -> pd.DataFrame:
    """Return the mean gain of each model's students over each control of the same seed and sensor."""
    table = run_table(runs)
    table = table[(table["split"] == split) & ~table.sensors.str.contains("+", regex=False)]
    controls = {name: table[table.method == control] for name, control in GAINS.items()}
    controls = {name: own.set_index(["sensors", "seed"]).miou for name, own in controls.items()}
    rows = []
    for model in models:
        own = table[table.run.isin([run.folder.name for run in model.runs])].set_index(["sensors", "seed"]).miou
        rows.append(
            {"model": model.name} | {n: (own - c.reindex(own.index)).mean(skipna=False) for n, c in controls.items()}
        )
    return pd.DataFrame(rows)


def spearman(x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Compute the rank correlations (k,) of x (k, n) with y (n,); within groups (n,) int, of ranks less their mean.

    NaN where either does not vary.
    """
    ranks = rankdata([*x, y], axis=1)
    shares = np.ones((1, len(y))) if groups is None else (groups == np.unique(groups)[:, None]).astype(float)
    ranks -= (ranks @ shares.T / shares.sum(axis=1)) @ shares
    norms = np.linalg.norm(ranks, axis=1)
    ranks = np.divide(ranks, norms[:, None], out=np.full_like(ranks, np.nan), where=norms[:, None] > 1e-9)
    return ranks[:-1] @ ranks[-1]


def rank_correlations(models: pd.DataFrame, gain: str = "gain", within: Sequence[str] = ()) -> pd.DataFrame:
    """Correlate every score with the gain over models, beside what chance alone would show.

    Args:
        models: rows of ``latent_scores``, of one null model or of the models themselves.
        gain: one of ``GAINS``.
        within: columns whose combinations are held fixed, such as ``study`` and ``method``.

    Returns:
        A row per score: ``rho``; ``low`` and ``high``, 95 %, from models resampled by variant, since seeds and studies
        of a variant are repetitions; ``chance``, which the largest of all scores exceeds in 5 of 100 tables whose
        variants exchanged their gains, within what is held fixed; ``clear``: the interval leaves zero out and rho
        exceeds chance; ``without``, the method that matters most, and ``rho without`` it; ``predicts``: clear, and the
        interval without that method leaves zero out on the same side; ``models``. Controls of the gain and
        scores of fewer than ten models are left out; NaN where nothing varies.
    """
    models = models[models[gain].notna() & (models.method != GAINS[gain])].reset_index(drop=True)
    scores = models[[name for name in SCORES if models[name].notna().sum() >= FEWEST_MODELS]]
    groups = models.groupby(list(within)).ngroup().to_numpy() if within else None
    gains, every, generator = models[gain].to_numpy(), np.arange(len(models)), np.random.default_rng(0)
    correlate, clusters = _Correlations(scores, groups), list(models.groupby("variant").indices.values())
    draws = generator.integers(len(clusters), size=(DRAWS, len(clusters)))
    drawn = [np.concatenate([clusters[i] for i in draw]) for draw in draws]
    exchanged = _exchanged(models, list(dict.fromkeys(["study", *within])), generator)
    largest = [np.nanmax(np.abs(correlate(np.append(gains, np.nan)[whose], every)), initial=0) for whose in exchanged]
    rhos = correlate(gains, every)
    chance = float(np.quantile(largest, 0.95)) if np.isfinite(rhos).any() else float("nan")
    resampled = np.array([correlate(gains, rows) for rows in drawn])
    left = {method: correlate(gains, every[models.method != method]) for method in models.method.unique()}
    rows, kept = [], {}
    for place, (name, rho) in enumerate(zip(scores, rhos, strict=True)):
        sign = np.sign(rho)
        without = min(left, key=lambda method: np.nan_to_num(left[method][place] * sign, nan=-np.inf))
        if without not in kept:
            others = (models.method != without).to_numpy()
            kept[without] = np.array([correlate(gains, rows_drawn[others[rows_drawn]]) for rows_drawn in drawn])
        low, high = interval(resampled[:, place])
        clear = bool(not low <= 0 <= high and abs(rho) > chance)
        least = min(sign * end for end in interval(kept[without][:, place]))
        count = scores[name].notna().sum()
        rows.append(
            (name, rho, low, high, chance, clear, without, left[without][place], clear and bool(least > 0), count)
        )
    columns = ["score", "rho", "low", "high", "chance", "clear", "without", "rho without", "predicts", "models"]
    return pd.DataFrame(rows, columns=columns)


class _Correlations:
    """The rank correlations of all scores with gains, over the rows that have both."""

    def __init__(self, scores: pd.DataFrame, groups: np.ndarray | None):
        self.x, self.groups = scores.to_numpy().T, groups
        known, which = np.unique(~np.isnan(self.x), axis=0, return_inverse=True)
        # scores with the same rows are ranked at once
        self.parts = [(np.flatnonzero(which.ravel() == part), mask) for part, mask in enumerate(known)]

    def __call__(self, gains: np.ndarray, rows: np.ndarray) -> np.ndarray:
        rhos, rows = np.full(len(self.x), np.nan), rows[~np.isnan(gains[rows])]
        for same, mask in self.parts:
            if len(kept := rows[mask[rows]]) > 2:
                groups = None if self.groups is None else self.groups[kept]
                rhos[same] = spearman(self.x[np.ix_(same, kept)], gains[kept], groups)
        return rhos


def _exchanged(models: pd.DataFrame, fixed: list[str], generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield ``DRAWS`` times whose gain each model gets when the variants exchange theirs, seed by seed.

    They do so within each group of ``fixed`` columns, in one order for all groups, since a variant of two studies
    repeats itself. -1 where the other variant has no model of the seed.
    """
    numbered = models.assign(row=models.index)
    grids = [
        part.pivot(index="variant", columns="seed", values="row").fillna(-1) for _, part in numbered.groupby(fixed)
    ]
    variants, cells = models.variant.unique(), [(grid.index, grid.to_numpy(int)) for grid in grids]
    for _ in range(DRAWS):
        order = dict(zip(variants, generator.permutation(len(variants)), strict=True))
        whose = np.full(len(models) + 1, -1)  # the last is that of cells without a model
        for names, grid in cells:
            whose[grid] = grid[np.argsort([order[name] for name in names])]
        yield whose[:-1]
