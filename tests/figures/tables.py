"""Small tables, as the library makes them, and what of a figure is read back."""

import matplotlib as mpl
import numpy as np
import pandas as pd

from crodino_lib.figures.latents import NULL_MARKERS

COLLAPSED = "collapsed: all vectors are equal"


def words(figure):
    """Return all text that is drawn, and the caption."""
    figure.draw_without_rendering()
    drawn = [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_visible()]
    return " ".join([*drawn, getattr(figure, "caption", "")]).replace("\n", " ")


def gain_table():
    """Return a comparison table of one baseline per sensor, two students and a teacher."""
    rows = [
        ("baseline", "-", "rgb", np.nan, np.nan, np.nan),
        ("baseline", "-", "depth", np.nan, np.nan, np.nan),
        ("acnet", "-", "rgb+depth", 1.6, 0.5, 2.9),
        ("kd", "acnet rgb+depth", "rgb", -4.3, -4.9, -3.6),
        ("crodino-kd", "-", "rgb", 0.2, -0.3, 0.8),
        ("crodino-kd", "-", "depth", 1.7, 0.9, 2.5),
    ]
    columns = ["method", "teacher", "sensors at test", "gain", "gain low", "gain high"]
    table = pd.DataFrame(rows, columns=columns).assign(**{"seeds": 1, "gain seeds": 1, "test images": 70})
    return pd.concat([table.assign(split=split) for split in ("test", "test_night")], ignore_index=True)


def null_table():
    """Return two models and five metrics: the first model's values are above, within, below and nowhere."""
    records = []
    for model, values in {"kd": (0.9, 0.5, 0.1, np.nan, 0.4), "crodino": (0.5, 0.9, 0.5, 0.5, 0.5)}.items():
        for quantity, value in zip(("cka shared", "sensor", "class", "rank", "swap"), values, strict=True):
            flag = "" if np.isnan(value) else "above" if value > 0.6 else "below" if value < 0.3 else "within"
            record = {"variant": model, "quantity": quantity, "value": value, "low": 0.3, "high": 0.6, "flag": flag}
            records.append(record | dict(zip(NULL_MARKERS, (0.3, 0.6, 0.4, np.nan), strict=True)))
    return pd.DataFrame(records)


def _points(card, **places):
    """Return two points per class and sensor at random places."""
    generator = np.random.default_rng(0)
    points = pd.DataFrame(
        [(s, name) for s in ("rgb", "depth") for name in card.classes * 2], columns=["sensor", "name"]
    )
    return points.assign(**places, x=generator.normal(size=len(points)), y=generator.normal(size=len(points)))


def _measured(table):
    measures = {"trustworthiness": 0.93, "cross_modality_hd": 0.42, "cross_modality_2d": 0.31}
    measures |= {"class_purity_hd": 0.61, "class_purity_2d": 0.72}
    return table.assign(points=16, k=5, seed=7, seeds=5, remark="", misleads=False, **measures)


def embedded(card):
    """Return points and table of two models, as ``fit_manifolds`` makes them."""
    keys = [
        {"model": model, "half": half, "embedding": embedding}
        for model in ("crodino-kd", "untrained")
        for half in ("shared", "private")
        for embedding in ("UMAP", "PCA")
    ]
    return pd.concat([_points(card, **key) for key in keys], ignore_index=True), _measured(pd.DataFrame(keys))


def filmed(card, halves=("shared", "private"), epochs=(0, 2, 5), gone=()):
    """Return points and table of a film; ``gone`` are the halves and epochs that collapsed."""
    keys = [{"half": half, "epoch": epoch} for half in halves for epoch in epochs]
    points = [_points(card, **key).assign(x=lambda p: p.x + p.epoch) for key in keys if tuple(key.values()) not in gone]
    table = _measured(pd.DataFrame(keys))
    for half, epoch in gone:
        table.loc[(table["half"] == half) & (table["epoch"] == epoch), ["points", "remark"]] = 0, COLLAPSED
    return pd.concat(points, ignore_index=True), table
