"""Probe what can be read from the latents: the class, which sensor a vector is from, and the factors of the scene.

A probe is standardised features and a penalised linear model. All blocks of a comparison get the same rows, the same
folds and the same probe. No image is both fitted on and scored; the penalty is chosen within the fitted images.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from crodino_lib.analysis import Result
from crodino_lib.analysis.extraction import Latents

FOLDS = 5
PENALTIES = (0.01, 0.1, 1.0)  # C of the logistic regression
RIDGES = np.logspace(0, 5, 11)
TOLERANCE = 1e-3  # of the gradient; a tenth of it changes accuracies by less than 0.01, and takes three times as long
READABLE = 2.0  # times chance: from here on a probe's transfer means something

one_thread = threadpool_limits.wrap(limits=1)  # matrices so small that threads only wait for each other


def image_folds(images: np.ndarray) -> GroupKFold:
    """Return five folds of whole images, fewer where there are fewer images; ValueError for fewer than two."""
    folds = min(FOLDS, len(np.unique(images)))
    if folds < 2:
        raise ValueError(f"a probe needs rows of at least 2 images, found {folds}")
    return GroupKFold(folds)


def logistic(C: float = 1.0) -> LogisticRegression:
    """Return a linear probe of classes; all classes count alike."""
    return LogisticRegression(C=C, max_iter=300, tol=TOLERANCE, class_weight="balanced", warm_start=True)


@one_thread
def modality_probe(
    first: np.ndarray, second: np.ndarray, images: np.ndarray, model: ClassifierMixin | None = None
) -> float:
    """Compute how often a fresh probe recognises which of two sensors a vector is from, on images it has not seen.

    Every place counts once for each sensor, so class, scene and area give nothing away; only the vectors do.

    Args:
        first: (n, d) vectors of one sensor; ``second`` are those of the other.
        images: (n,) image of every vector, of two images or more.
        model: a logistic regression where none is given.

    Returns:
        Accuracy: 0.5 where the sensors cannot be told apart, 1 where they always can. A low value means that a probe
        of this kind found no difference with these images, not that none exists. Explained in notebook 06.
    """
    vectors, sensor = np.concatenate([first, second]), np.repeat([0, 1], len(first))
    model = make_pipeline(StandardScaler(), model or LogisticRegression(max_iter=1000))
    groups = np.concatenate([images, images])
    return float((cross_val_predict(model, vectors, sensor, groups=groups, cv=image_folds(images)) == sensor).mean())


def modality_probes(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Probe which sensor a vector is from, which other widths of the blocks would give away: NaN there.

    Returns ``modality`` of each half: accuracy, 0.5 at chance; ``skill``: that above chance, in [0, 1], once a sensor.
    """
    results = []
    for half, (u, v) in latents.pairs.items():
        same_width = u.shape[1] == v.shape[1]
        accuracy = modality_probe(u, v, latents.images, logistic(PENALTIES[1])) if same_width else np.nan
        results.append(Result("modality", accuracy, half=half))
        results += [Result("skill", np.maximum(2 * accuracy - 1, 0), s, half, "modality") for s in latents.sensors]
    return results


@one_thread
def class_accuracy(
    fitted: np.ndarray, classes: np.ndarray, images: np.ndarray, scored: Sequence[np.ndarray], seed: int = 0
) -> list[float]:
    """Compute the balanced accuracies of a class probe fitted on one block and scored on several, on unseen images.

    Row i of the blocks ``fitted`` and ``scored`` (n, d) is the same place, of a class and an image. A fifth of the
    fitted images, drawn with ``seed``, chooses C.
    """
    guesses = np.empty((len(scored), len(classes)), dtype=classes.dtype)
    for train, test in image_folds(images).split(fitted, groups=images):
        scaler = StandardScaler().fit(fitted[train])
        model = _fit_best_penalty(scaler.transform(fitted[train]), classes[train], images[train], seed)
        for index, block in enumerate(scored):
            guesses[index, test] = model.predict(scaler.transform(block[test]))
    return [balanced_accuracy(classes, guess) for guess in guesses]


def _fit_best_penalty(vectors: np.ndarray, classes: np.ndarray, images: np.ndarray, seed: int) -> ClassifierMixin:
    """Fit a logistic regression to all rows, with the C that scores best on a fifth of their images."""
    if len(np.unique(classes)) < 2:
        return DummyClassifier().fit(vectors, classes)
    if len(np.unique(images)) < FOLDS:
        return logistic().fit(vectors, classes)
    inner, outer = next(GroupShuffleSplit(1, test_size=1 / FOLDS, random_state=seed).split(vectors, groups=images))
    if len(np.unique(classes[inner])) < 2:
        return logistic().fit(vectors, classes)
    model, scores = logistic(), []
    for C in PENALTIES:  # each starts where the one before, more strongly penalised, ended
        guesses = model.set_params(C=C).fit(vectors[inner], classes[inner]).predict(vectors[outer])
        scores.append(balanced_accuracy(classes[outer], guesses))
    same = len(model.classes_) == len(np.unique(classes))
    return (model if same else logistic()).set_params(C=PENALTIES[int(np.argmax(scores))]).fit(vectors, classes)


def balanced_accuracy(classes: np.ndarray, guesses: np.ndarray) -> float:
    """Compute the mean recall over the classes that occur; chance is 1 / classes."""
    return float(np.mean([(guesses[classes == k] == k).mean() for k in np.unique(classes)]))


def class_probes(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Probe the class of the regions of two sensors; the generator draws the control labels.

    Returns ``class``: balanced accuracy of a block; ``skill``: the same above chance, in [0, 1]; ``class_chance``;
    ``selectivity``: accuracy above that of a control task, random labels per image scored on other rows of the same
    images, which is what a probe could have memorised; ``delta`` of a half: accuracy that it adds to the other half
    alone; ``transfer`` of a half: accuracy of the probe of one sensor on the other, relative to that sensor's own
    probe, mean of both ways (1: one code). Transfer is NaN where the sensors' blocks have other widths, or where a
    sensor's own probe is below twice chance.

    Source: Alain and Bengio, 2016; selectivity: Hewitt and Liang, EMNLP 2019. Explained in notebook 07.
    """
    classes, images, seed = latents.classes, latents.images, int(generator.integers(2**31))
    count = len(np.unique(classes))
    if count < 2:
        raise ValueError(f"class probes need rows of at least 2 classes, found {count}")
    control = generator.permutation(np.arange(images.max() + 1) % count)[images]
    results, accuracy = [Result("class_chance", 1 / count)], {}
    for half, pair in latents.pairs.items():
        crossed = np.full((2, 2), np.nan)  # fitted on, scored on
        for index, block in enumerate(pair):
            scored = [other for other in (0, 1) if pair[other].shape == block.shape]
            crossed[index, scored] = class_accuracy(block, classes, images, [pair[other] for other in scored], seed)
            accuracy[latents.sensors[index], half] = crossed[index, index]
        own = np.diag(crossed)
        readable = np.where(own >= READABLE / count, own, np.nan)
        results.append(Result("transfer", float((np.diag(crossed[::-1]) / readable).mean()), half=half))
    for block, vectors in latents.blocks.items():
        linear = accuracy[block]
        memorised = class_accuracy(vectors, control, np.arange(len(vectors)), [vectors], seed)[0]
        results.append(Result("class", linear, *block))
        results.append(Result("selectivity", linear - max(memorised, 1 / count), *block))
        results.append(Result("skill", max(0.0, (linear - 1 / count) / (1 - 1 / count)), *block, "class"))
    for sensor in latents.sensors:
        both = np.concatenate([latents.blocks[sensor, half] for half in latents.halves], axis=1)
        together = class_accuracy(both, classes, images, [both], seed)[0]
        for half, other in zip(latents.halves, latents.halves[::-1], strict=True):
            results.append(Result("delta", together - accuracy[sensor, other], sensor, half))
    return results


@one_thread
def class_errors(vectors: np.ndarray, classes: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Compute (n,) 1 less the probability of every row's class, by a linear probe fitted on other images.

    Rows of a class that the fitted images do not show have an error of 1.
    """
    errors = np.ones(len(classes))
    for train, test in image_folds(images).split(vectors, groups=images):
        model = make_pipeline(StandardScaler(), logistic(PENALTIES[1])).fit(vectors[train], classes[train])
        own = classes[test][:, None] == model.classes_
        errors[test] -= (model.predict_proba(vectors[test]) * own).sum(axis=1)
    return errors


def factor_probes(
    latents: Latents, generator: np.random.Generator, targets: pd.DataFrame, shuffles: int
) -> list[Result]:
    """Probe every factor of the scenes in the latents of whole images.

    ``targets`` has a row per scene, indexed by its id, and a column of finite numbers per factor, else ValueError; two
    values are a yes or no. Returns per factor and block ``skill`` of a linear probe, and ``skill_chance``: the 95th
    percentile of so many shuffles of the factors over scenes.
    """
    targets = targets.loc[latents.rows["image"]]
    if twice := targets.columns[targets.columns.duplicated()].tolist():
        raise ValueError(f"factors have one name twice: {', '.join(twice)}")
    for name, values in targets.items():
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise ValueError(f"factor {name} must be a number in every row, found {values.head(4).tolist()} ...")
    wanted, results = targets.to_numpy(float), []
    everything = np.concatenate([wanted, *[generator.permutation(wanted) for _ in range(shuffles)]], axis=1)
    for block, vectors in latents.blocks.items():
        guesses = held_out_guesses(vectors, everything, latents.images)
        skills = np.array([skill(*pair) for pair in zip(everything.T, guesses.T, strict=True)])
        skills = skills.reshape(1 + shuffles, -1)
        for measure, values in (("skill", skills[0]), ("skill_chance", np.quantile(skills[1:], 0.95, axis=0))):
            results += [Result(measure, float(v), *block, name) for name, v in zip(targets, values, strict=True)]
    return results


def skill(actual: np.ndarray, guesses: np.ndarray) -> float:
    """Compute how far above chance the guesses are: 0 at chance or below, 1 if perfect, NaN of a constant.

    R² of numbers; of a yes or no, twice the balanced accuracy above one half, of guesses divided at their mean.
    """
    values = np.unique(actual)
    if len(values) < 2:
        return np.nan
    if len(values) == 2:
        return max(0.0, 2 * balanced_accuracy(actual == values[1], guesses > guesses.mean()) - 1)
    return max(0.0, 1 - float(((actual - guesses) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()))


@one_thread
def held_out_guesses(vectors: np.ndarray, targets: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return the guesses (n, F) of ridge regressions for standardised targets, on unseen images.

    Each target has its own penalty, chosen by leaving out single rows of the fitted images, in closed form.
    """
    ridge = make_pipeline(StandardScaler(), RidgeCV(RIDGES, alpha_per_target=True))
    model = TransformedTargetRegressor(ridge, transformer=StandardScaler())
    return cross_val_predict(model, vectors.astype(float), targets, groups=images, cv=image_folds(images))
