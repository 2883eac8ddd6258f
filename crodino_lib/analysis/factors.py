"""What of a scene's factors, or of a cell's place, is in every block: probes of numbers, on images not fitted on."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.probes import STEPS, folds_of, perceptron

RIDGES = np.logspace(0, 5, 11)


def compute(
    latents: Latents,
    targets: dict[str, np.ndarray],
    n: int,
    shuffles: int,
    generator: np.random.Generator,
    steps: int = STEPS,
) -> dict[str, float]:
    """How well linear probes and perceptrons read every factor from every block.

    Args:
        latents: one row per image, best; of regions and pixels every row is asked for its image's factor.
        targets: factor -> (n,) value of every row, numbers; two values are a yes or no.
        n: most rows.
        shuffles: how often the factors are shuffled over images, for chance.
        generator: of the sample, the shuffles and the perceptron's start.
        steps: of the perceptron; 0 asks none.

    Returns:
        ``<factor> <block>`` skill in [0, 1] of a linear probe, ``<factor>_mlp <block>`` of a perceptron,
        ``<factor>_chance <block>``: 95th percentile of the linear skill with the factor shuffled over images.
        ``rows``, ``images``. See ``skill``; NaN where the factor is the same in all rows.

    Raises:
        ValueError: fewer than two images, or a target of another length.
    """
    for name, values in targets.items():
        if len(values) != len(latents):
            raise ValueError(f"factor {name} has {len(values)} values, but there are {len(latents)} rows")
        found = np.asarray(values)
        if found.dtype.kind not in "biuf" or not np.isfinite(found).all():
            raise ValueError(f"factor {name} must be a number in every row, found {found[:4].tolist()} ...")
    chosen = np.arange(len(latents))
    if len(latents) > n:
        chosen = np.sort(generator.permutation(len(latents))[:n])
    latents = latents.take(chosen)
    images, names = latents.images, list(targets)
    found: dict[str, float] = {"rows": len(latents), "images": len(np.unique(images))}
    if not names:
        return found
    wanted = np.stack([np.asarray(targets[name], float)[chosen] for name in names], axis=1)
    shuffled = [wanted[_shuffled(images, wanted, generator)] for _ in range(shuffles)]
    everything = np.concatenate([wanted, *shuffled], axis=1)
    seed = int(generator.integers(2**31))
    for block, vectors in latents.blocks.items():
        guessed = ridge_guesses(vectors, everything, images)
        skills = np.array([skill(*pair) for pair in zip(everything.T, guessed.T, strict=True)])
        skills = skills.reshape(1 + shuffles, len(names))
        curved = perceptron_guesses(vectors, wanted, images, steps, seed) if steps else None
        for index, name in enumerate(names):
            found[f"{name} {block}"] = skills[0, index]
            if steps:
                found[f"{name}_mlp {block}"] = skill(wanted[:, index], curved[:, index])
            found[f"{name}_chance {block}"] = float(np.quantile(skills[1:, index], 0.95)) if shuffles else np.nan
    return found


def skill(actual: np.ndarray, guessed: np.ndarray) -> float:
    """How far above chance a guess is: 0 at chance or below, 1 if perfect.

    R² of numbers; of a yes or no, twice the balanced accuracy above one half, of guesses parted at their
    mean. NaN where ``actual`` is constant.
    """
    values = np.unique(actual)
    if len(values) < 2:
        return float("nan")
    if len(values) == 2:
        return max(0.0, 2 * balanced_accuracy_score(actual == values[1], guessed > guessed.mean()) - 1)
    return max(0.0, 1 - float(((actual - guessed) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()))


def ridge_guesses(vectors: np.ndarray, targets: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Guesses (n, F) of ridge regressions on images they were not fitted on; each target has its own penalty.

    The penalty is chosen by leaving out single rows of the fitted images, in closed form.
    """
    guesses = np.empty(targets.shape)
    vectors = vectors.astype(np.float64)
    for train, test in folds_of(images).split(vectors, groups=images):
        centre, spread = targets[train].mean(axis=0), targets[train].std(axis=0)
        spread[spread == 0] = 1
        model = make_pipeline(StandardScaler(), RidgeCV(RIDGES, alpha_per_target=True))
        model.fit(vectors[train], (targets[train] - centre) / spread)
        guesses[test] = model.predict(vectors[test]).reshape(len(test), -1) * spread + centre
    return guesses


def perceptron_guesses(
    vectors: np.ndarray, targets: np.ndarray, images: np.ndarray, steps: int, seed: int
) -> np.ndarray:
    """The same of one perceptron for all targets, with one hidden layer."""
    guesses = np.empty(targets.shape)
    for train, test in folds_of(images).split(vectors, groups=images):
        centre, spread = targets[train].mean(axis=0), targets[train].std(axis=0)
        spread[spread == 0] = 1
        model = make_pipeline(StandardScaler(), perceptron(len(train), steps, seed, MLPRegressor, alpha=1.0))
        model.fit(vectors[train], np.squeeze((targets[train] - centre) / spread))
        guesses[test] = model.predict(vectors[test]).reshape(len(test), -1) * spread + centre
    return guesses


def _shuffled(images: np.ndarray, wanted: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """For every row, the row whose targets it is given.

    Those of another image, where all rows of an image have one target; else of another row of its own image, as
    pictures are laid out alike: the place of a cell in another image is its own.
    """
    first = np.unique(images, return_index=True)[1]
    if (wanted == wanted[first][images]).all():
        return first[generator.permutation(len(first))][images]
    order = generator.permutation(len(images))
    given = np.empty(len(images), int)
    given[np.argsort(images, kind="stable")] = order[np.argsort(images[order], kind="stable")]
    return given
