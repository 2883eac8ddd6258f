"""What fresh probes read from the latents, on images that they were not fitted on.

A probe is standardised features and a penalised linear model, or a perceptron of one hidden layer. All blocks of a
comparison are given the same rows, the same folds and the same probe. No image is both fitted and judged; the penalty
is chosen inside the fitted images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, cross_val_predict
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from crodino_lib.analysis._common import drawn
from crodino_lib.analysis.extraction import Latents

FOLDS = 5
PENALTIES = (0.01, 0.1, 1.0)  # C of the logistic regression
TOLERANCE = 1e-3  # of the gradient; a tenth of it changes accuracies by less than 0.01, and takes three times as long
HIDDEN = 64
STEPS = 400  # of a perceptron, where nobody says how many
READABLE = 2.0  # times chance: a probe whose transfer is worth asking for

one_thread = threadpool_limits.wrap(limits=1)  # matrices so small that threads only wait for each other


def sensor_probe(latents: Latents, half: str, sensors: tuple[str, str]) -> float:
    """How often a fresh linear probe tells from a region's vector which of two sensors saw it.

    Every region counts once for each sensor, so class, scene and area tell nothing; only the vectors do.

    Args:
        latents: paired regions, as ``extract_regions`` gives them.
        half: ``shared`` or ``private``.
        sensors: the two to tell apart, whose blocks have equally many channels.

    Returns:
        Accuracy in [0, 1], balanced; 0.5 is chance. A high value says that a linear direction gives the sensor away; a
        low one, that no linear direction was found with these images, not that none of another kind is.

    Raises:
        ValueError: fewer than two images, or no such block.

    Explained in notebook 06.
    """
    first, second = (f"{sensor}/{half}" for sensor in sensors)
    for name in (first, second):
        if name not in latents.blocks:
            raise ValueError(f"there is no block {name!r}; the blocks are {', '.join(latents.blocks)}")
    return modality_probe(latents.blocks[first], latents.blocks[second], latents.rows["image"].to_numpy())


@one_thread
def modality_probe(
    first: np.ndarray, second: np.ndarray, images: np.ndarray, model: ClassifierMixin | None = None
) -> float:
    """Accuracy of a classifier that says which sensor a vector is from, on images it has not seen.

    Args:
        first: (n, d) vectors of one sensor.
        second: (n, d) of the other.
        images: (n,) image of every vector; no image is both fitted and judged.
        model: a logistic regression where none is given.

    Returns:
        0.5 where the sensors cannot be told apart, 1 where they always can. Both sensors count alike.

    Raises:
        ValueError: fewer than two images.
    """
    groups = np.concatenate([images, images])
    vectors, sensor = np.concatenate([first, second]), np.repeat([0, 1], len(first))
    model = make_pipeline(StandardScaler(), model or LogisticRegression(max_iter=1000))
    guessed = cross_val_predict(model, vectors, sensor, groups=groups, cv=folds_of(images))
    return float((guessed == sensor).mean())


def folds_of(images: np.ndarray) -> GroupKFold:
    """Five folds of whole images, fewer where there are fewer images.

    Raises:
        ValueError: fewer than two images.
    """
    folds = min(FOLDS, len(np.unique(images)))
    if folds < 2:
        raise ValueError(f"a probe needs rows of at least 2 images, found {folds}")
    return GroupKFold(folds)


def logistic(C: float = 1.0) -> LogisticRegression:
    """A linear probe of classes; all classes count alike."""
    return LogisticRegression(C=C, max_iter=300, tol=TOLERANCE, class_weight="balanced", warm_start=True)


def perceptron(
    rows: int, steps: int, seed: int, kind: type[MLPClassifier | MLPRegressor] = MLPClassifier, alpha: float = 0.1
):
    """A probe with one hidden layer, for what is there but not linearly: about ``steps`` steps whatever the ``rows``.

    It weighs classes by their frequency.
    """
    batch = max(1, min(64, rows // 2))
    epochs = max(1, steps * batch // rows)
    return kind(hidden_layer_sizes=(HIDDEN,), alpha=alpha, batch_size=batch, max_iter=epochs, random_state=seed)


@one_thread
def class_skill(
    fitted: np.ndarray, classes: np.ndarray, images: np.ndarray, judged: Sequence[np.ndarray], seed: int = 0
) -> list[float]:
    """Balanced accuracy of a class probe fitted on one block and judged on several, on images it has not seen.

    Args:
        fitted: (n, d) vectors the probe learns from.
        classes: (n,) class of every row.
        images: (n,) image of every row.
        judged: blocks (n, d) it is judged on, row by row the same places; the fitted one among them, or not.
        seed: of the choice of the images that choose C.

    Returns:
        One balanced accuracy per judged block. C is chosen on a fifth of the fitted images, by image.
    """
    guesses = np.empty((len(judged), len(classes)), dtype=classes.dtype)
    for train, test in folds_of(images).split(fitted, groups=images):
        scaler = StandardScaler().fit(fitted[train])
        model = _chosen(scaler.transform(fitted[train]), classes[train], images[train], seed)
        for index, block in enumerate(judged):
            guesses[index, test] = model.predict(scaler.transform(block[test]))
    return [balanced_accuracy(classes, guess) for guess in guesses]


def _chosen(vectors: np.ndarray, classes: np.ndarray, images: np.ndarray, seed: int) -> ClassifierMixin:
    """A logistic regression of all rows, with the C that judges a fifth of their images best."""
    if len(np.unique(classes)) < 2:
        return DummyClassifier().fit(vectors, classes)
    if len(np.unique(images)) < FOLDS:
        return logistic().fit(vectors, classes)
    inner, outer = next(GroupShuffleSplit(1, test_size=1 / FOLDS, random_state=seed).split(vectors, groups=images))
    if len(np.unique(classes[inner])) < 2:
        return logistic().fit(vectors, classes)
    model, scores = logistic(), []
    for C in PENALTIES:  # each starts where the one before, more strongly penalised, ended
        guessed = model.set_params(C=C).fit(vectors[inner], classes[inner]).predict(vectors[outer])
        scores.append(balanced_accuracy(classes[outer], guessed))
    same = len(model.classes_) == len(np.unique(classes))
    return (model if same else logistic()).set_params(C=PENALTIES[int(np.argmax(scores))]).fit(vectors, classes)


def balanced_accuracy(classes: np.ndarray, guessed: np.ndarray) -> float:
    """Mean over the classes that occur of the share of their rows that are guessed; chance is 1 / classes."""
    return float(np.mean([(guessed[classes == k] == k).mean() for k in np.unique(classes)]))


def class_probes(latents: Latents, n: int, generator: np.random.Generator, steps: int = STEPS) -> dict[str, float]:
    """What the class probes say of a model; ``compute`` of this module for rows that have classes.

    Args:
        latents: regions or pixels of two sensors.
        n: most rows.
        generator: of the sample, the control labels and the perceptron's start.
        steps: of the perceptron; 0 asks none.

    Returns:
        ``class <block>`` balanced accuracy of a linear probe, ``class_mlp <block>`` of a perceptron, ``class_chance``;
        ``selectivity <block>``: above the accuracy of a control task, random labels per image, judged on other rows of
        the same images: what the probe could have learnt by heart; ``delta_private <sensor>`` and ``delta_shared
        <sensor>``: what the other half adds to a half alone, of balanced accuracy; ``transfer <half>``: accuracy of the
        probe of one sensor on the other, relative to that sensor's own probe, mean of both ways (1: one code). Transfer
        is NaN where the sensors' blocks have other widths, or a sensor's own probe is below twice chance. ``rows``,
        ``images``, ``classes``.

    Raises:
        ValueError: fewer than two images, or fewer than two classes.

    Source: Alain and Bengio, 2016; selectivity: Hewitt and Liang, EMNLP 2019. Explained in notebook 07.
    """
    latents = drawn(latents, n, generator)
    classes, images, seed = latents.classes, latents.images, int(generator.integers(2**31))
    found: dict[str, float] = {"rows": len(latents), "images": len(np.unique(images))}
    found |= {"classes": len(np.unique(classes)), "class_chance": 1 / len(np.unique(classes))}
    if found["classes"] < 2:
        raise ValueError(f"class probes need rows of at least 2 classes, found {found['classes']}")
    control = generator.permutation(np.arange(images.max() + 1) % len(np.unique(classes)))[images]
    linear: dict[str, float] = {}
    for half in latents.halves:
        blocks = [latents.blocks[f"{sensor}/{half}"] for sensor in latents.sensors]
        alike = len({block.shape[1] for block in blocks}) == 1
        crossed = np.full((2, 2), np.nan)
        for index, block in enumerate(blocks):
            judged = class_skill(block, classes, images, blocks if alike else [block], seed)
            crossed[index, :] = judged if alike else np.where(np.arange(2) == index, judged, np.nan)
        for index, sensor in enumerate(latents.sensors):
            linear[f"{sensor}/{half}"] = crossed[index, index]
        own = np.diag(crossed)  # of a probe that hardly beats chance, a share says nothing
        share = crossed[[0, 1], [1, 0]] / np.where(own >= READABLE * found["class_chance"], own, np.nan)[::-1]
        found[f"transfer {half}"] = float(share.mean())
    for name, block in latents.blocks.items():
        found[f"class {name}"] = linear[name]
        if steps:
            found[f"class_mlp {name}"] = _judged(perceptron(len(latents), steps, seed), block, classes, images)
        by_heart = class_skill(block, control, np.arange(len(block)), [block], seed)[0]
        found[f"selectivity {name}"] = linear[name] - max(by_heart, found["class_chance"])
    for sensor in latents.sensors:
        halves = [f"{sensor}/{half}" for half in latents.halves]
        both = np.concatenate([latents.blocks[name] for name in halves], axis=1)
        together = class_skill(both, classes, images, [both], seed)[0]
        found[f"delta_private {sensor}"] = together - linear[f"{sensor}/shared"]
        found[f"delta_shared {sensor}"] = together - linear[f"{sensor}/private"]
    return found


@one_thread
def _judged(model: ClassifierMixin, vectors: np.ndarray, target: np.ndarray, images: np.ndarray) -> float:
    guessed = cross_val_predict(
        make_pipeline(StandardScaler(), clone(model)), vectors, target, groups=images, cv=folds_of(images)
    )
    return balanced_accuracy(target, guessed)


def modality_probes(latents: Latents, n: int, generator: np.random.Generator, steps: int = STEPS) -> dict[str, float]:
    """How often fresh probes tell which sensor a vector is from.

    Args:
        latents: paired rows of two sensors.
        n: most rows.
        generator: of the sample and the perceptron's start.
        steps: of the perceptron; 0 asks none.

    Returns:
        ``modality <half>``: accuracy of a linear probe, 0.5 where it cannot tell; ``modality_mlp <half>``: of a
        perceptron; ``a_distance <half>``: 2 (1 - 2 error), from 0 to 2. NaN where the sensors' blocks have other
        widths, which tells them trivially. ``rows``, ``images``.

    Raises:
        ValueError: fewer than two images.
    """
    latents = drawn(latents, n, generator)
    images, seed = latents.images, int(generator.integers(2**31))
    found: dict[str, float] = {"rows": len(latents), "images": len(np.unique(images))}
    for half in latents.halves:
        first, second = (latents.blocks[f"{sensor}/{half}"] for sensor in latents.sensors)
        if first.shape[1] != second.shape[1]:
            found |= {f"{measure} {half}": np.nan for measure in ("modality", "modality_mlp", "a_distance")}
            continue
        linear = modality_probe(first, second, images, logistic(PENALTIES[1]))
        found[f"modality {half}"] = linear
        if steps:
            curved = perceptron(2 * len(first), steps, seed)
            found[f"modality_mlp {half}"] = modality_probe(first, second, images, curved)
        found[f"a_distance {half}"] = max(0.0, 2 * (2 * linear - 1))
    return found


@one_thread
def class_errors(vectors: np.ndarray, classes: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(n,) how little a linear probe believes in every row's class: 1 less its probability, on images not fitted on.

    Rows of a class that the fitted images do not show have an error of 1.
    """
    errors = np.ones(len(classes))
    for train, test in folds_of(images).split(vectors, groups=images):
        scaler = StandardScaler().fit(vectors[train])
        model = logistic(PENALTIES[1]).fit(scaler.transform(vectors[train]), classes[train])
        believed = pd.DataFrame(model.predict_proba(scaler.transform(vectors[test])), columns=model.classes_)
        believed = believed.reindex(columns=np.union1d(model.classes_, classes), fill_value=0.0)
        errors[test] = 1 - believed.to_numpy()[np.arange(len(test)), believed.columns.get_indexer(classes[test])]
    return errors
