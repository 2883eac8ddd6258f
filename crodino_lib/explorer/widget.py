"""The explorer in a notebook: what is brushed in one cell is a table in the next."""

from __future__ import annotations

from collections.abc import Sequence

import anywidget
import numpy as np
import pandas as pd
import traitlets

from crodino_lib.analysis.extraction import FACTOR
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.explorer.page import SCRIPT, STYLE
from crodino_lib.explorer.payload import ExploredRun, payload


class Explorer(anywidget.AnyWidget):
    """A cloud of points to brush; show it as a cell's last expression, then read ``selection`` in the next.

    Attributes:
        data: what is drawn, from ``payload``.
        selected: numbers of the brushed points; set it to brush from Python.
        run: name of the run that the browser shows.
        block: ``shared`` or ``private``, the block that the browser shows.

    Raises:
        ValueError: see ``payload``.

    Explained in notebook 07.
    """

    _esm = SCRIPT
    _css = STYLE
    data = traitlets.Dict(read_only=True).tag(sync=True)
    selected = traitlets.List(traitlets.Int()).tag(sync=True)
    run = traitlets.Unicode(read_only=True).tag(sync=True)
    block = traitlets.Unicode(read_only=True).tag(sync=True)

    def __init__(self, title: str, card: DatasetCard, scenes: Scenes, runs: Sequence[ExploredRun]):
        data = payload(title, card, scenes, runs)
        self._runs, self._scenes = {run.name: run for run in runs}, scenes
        super().__init__()
        for name, value in {"data": data, "run": runs[0].name, "block": runs[0].clouds[0].block}.items():
            self.set_trait(name, value)

    @property
    def selection(self) -> pd.DataFrame:
        """The brushed points of the run shown, one row each, in the order of ``selected``.

        Returns:
            ``point`` (its number), ``sensor``, the columns of the run's rows (``image``, ``class``, ``name``, its box,
            ...), ``factor/<name>`` where the scenes have factors, and ``probe_error`` of the block shown (NaN where no
            probe was asked).

        Raises:
            ValueError: ``selected`` holds numbers that are no points of this run.
        """
        run, points = self._runs[self.run], np.asarray(self.selected, int)
        count = len(run.sensors) * len(run.rows)
        if ((points < 0) | (points >= count)).any():
            wrong = points[(points < 0) | (points >= count)]
            raise ValueError(f"selected holds {wrong[:8].tolist()}, but run {run.name!r} has points 0..{count - 1}")
        sensor, row = np.divmod(points, len(run.rows))
        table = run.rows.iloc[row].reset_index(drop=True)
        errors = run.errors.get(self.block, np.full(count, np.nan))
        for name, values in self._factors(table["image"]).items():
            table[name] = values
        table.insert(0, "point", points)
        table.insert(1, "sensor", np.asarray(run.sensors)[sensor])
        return table.assign(probe_error=errors[points])

    def _factors(self, images: pd.Series) -> dict[str, np.ndarray]:
        if self._scenes.factors is None:
            return {}
        scene = pd.Index(self._scenes.ids).get_indexer(images)
        return {f"{FACTOR}{name}": self._scenes.factors[name].to_numpy()[scene] for name in self._scenes.factors}
