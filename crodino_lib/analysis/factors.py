"""Probe which factors of a scene can be read from every block, on unseen images."""

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import RidgeCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crodino_lib.analysis._common import Result
from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.probes import image_folds, one_thread

RIDGES = np.logspace(0, 5, 11)


def factor_probes(
    latents: Latents, generator: np.random.Generator, targets: pd.DataFrame, shuffles: int
) -> list[Result]:
    """Probe every factor of the scenes.

    Args:
        latents: whole images.
        generator: of the shuffles.
        targets: one row per scene, indexed by its id, and one column of numbers per factor; two values are a yes or no.
        shuffles: how often the factors are shuffled over scenes, for chance.

    Returns:
        Per factor and block ``skill`` of a linear probe, and ``skill_chance``: the 95th percentile of the shuffles.

    Raises:
        ValueError: fewer than two images, a factor twice, or a factor that is not a finite number in every row.
    """
    columns = targets.loc[latents.rows["image"]]
    if not columns.columns.is_unique:
        raise ValueError(f"factors have one name twice: {', '.join(columns.columns[columns.columns.duplicated()])}")
    for name in columns:
        values = columns[name].to_numpy()
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise ValueError(f"factor {name} must be a number in every row, found {values[:4].tolist()} ...")
    wanted, results = columns.to_numpy(float), []
    everything = np.concatenate([wanted, *[generator.permutation(wanted) for _ in range(shuffles)]], axis=1)
    for block, vectors in latents.blocks.items():
        guesses = held_out_guesses(vectors, everything, latents.images)
        skills = np.array([skill(*pair) for pair in zip(everything.T, guesses.T, strict=True)])
        skills = skills.reshape(1 + shuffles, len(columns.columns))
        for measure, values in (("skill", skills[0]), ("skill_chance", np.quantile(skills[1:], 0.95, axis=0))):
            results += [Result(measure, float(v), *block, name) for name, v in zip(columns, values, strict=True)]
    return results


def skill(actual: np.ndarray, guesses: np.ndarray) -> float:
    """Compute how far above chance the guesses are: 0 at chance or below, 1 if perfect.

    R² of numbers; of a yes or no, twice the balanced accuracy above one half, of guesses divided at their mean. NaN
    where ``actual`` is constant.
    """
    values = np.unique(actual)
    if len(values) < 2:
        return float("nan")
    if len(values) == 2:
        return max(0.0, 2 * balanced_accuracy_score(actual == values[1], guesses > guesses.mean()) - 1)
    return max(0.0, 1 - float(((actual - guesses) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()))


@one_thread
def held_out_guesses(vectors: np.ndarray, targets: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return the guesses (n, F) of ridge regressions for standardised targets, on unseen images.

    Each target has its own penalty, chosen by leaving out single rows of the fitted images, in closed form.
    """
    ridge = make_pipeline(StandardScaler(), RidgeCV(RIDGES, alpha_per_target=True))
    model = TransformedTargetRegressor(ridge, transformer=StandardScaler())
    return cross_val_predict(model, vectors.astype(float), targets, groups=images, cv=image_folds(images))
