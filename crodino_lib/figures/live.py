"""Show a training in a live notebook while it runs."""

import pandas as pd
from IPython.display import display

from crodino_lib.figures.charts import training_curves

_shown = {}  # label of a training -> (number of epochs shown, its place in the notebook)


def show_curves(label: str, history: list[dict]) -> None:
    """Draw the curves of a training so far, in one place that every epoch draws anew.

    A training that starts again, in another cell, gets a place of its own.
    """
    figure = training_curves({label: pd.DataFrame(history)})
    epochs, place = _shown.get(label, (0, None))
    if place is None or len(history) <= epochs:
        place = display(figure, display_id=True)
    else:
        place.update(figure)
    _shown[label] = (len(history), place)
