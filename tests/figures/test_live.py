"""A training that is watched in a notebook has one figure, which every epoch draws anew."""

import pytest

from crodino_lib.figures import live


class Place:
    """Stands for a place in a notebook: keeps what it was told to show."""

    def __init__(self):
        self.figures = []

    def update(self, figure):
        self.figures.append(figure)


@pytest.fixture
def places(monkeypatch):
    shown = []

    def display(figure, display_id):
        assert display_id
        shown.append(Place())
        shown[-1].update(figure)
        return shown[-1]

    monkeypatch.setattr(live, "display", display)
    monkeypatch.setattr(live, "_shown", {})
    return shown


def row(epoch):
    return {"epoch": epoch, "segmentation/rgb": 1 / epoch, "val_miou/rgb": 0.1 * epoch, "learning_rate": 1e-3}


def test_epochs_of_one_training_share_a_place_and_another_training_has_its_own(places):
    for epochs in (1, 2, 3):
        live.show_curves("kd rgb seed 0", [row(1 + i) for i in range(epochs)])
    live.show_curves("kd depth seed 0", [row(1)])
    live.show_curves("kd rgb seed 0", [row(1)])  # trained again, with other settings
    assert [len(place.figures) for place in places] == [3, 1, 1]
    last = places[0].figures[-1]
    assert {len(line.get_xdata()) for ax in last.axes for line in ax.lines} == {3}
