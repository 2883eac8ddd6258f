"""Figures of dials: a line per method over the values, or a list where there is one, and what was predicted."""

import numpy as np
import pandas as pd
import pytest

from crodino_lib.config import StudyConfig
from crodino_lib.figures.base import WIDTHS_MM, method_colours
from crodino_lib.figures.dials import ablation_figure, dial_caption, dial_figure, drawings, save_dials
from crodino_lib.study.dials import BASE, DIALS, Dial
from crodino_lib.study.study import Study
from tests.figures.tables import words

OVER = {"baseline": "gain over the baseline", "self-training": "gain over self-training"}


def dial(*values):
    own = {"name": "some", "title": "labelled scenes", "setting": "labelled", "students": ("rgb", "depth")}
    return Dial.parse({**own, "values": values, "prediction": "It grows.", "source": "Somebody, 2016"})


TITLES = {"kd": "KD", "crodino-kd": "CroDiNo-KD"}


def gains(*values, methods=("kd", "crodino-kd"), students=("rgb", "depth"), controls=tuple(OVER), seeds=3):
    """Return a dial's table in which every gain is another number: 0, 1, 2 and so on, each with an interval of +-2."""
    keys = [(str(v), s, m, c) for v in values for s in students for m in methods for c in controls]
    table = pd.DataFrame(keys, columns=["value", "student", "method", "control"])
    return table.assign(gain=np.arange(len(keys)), low=lambda t: t.gain - 2.0, high=lambda t: t.gain + 2.0, seeds=seeds)


def drawn(ax):
    """Return the marked lines of a panel by label: their values."""
    return {line.get_label(): list(line.get_ydata()) for line in ax.lines if line.get_marker() == "o"}


def test_several_values_are_lines_a_panel_per_student_and_control():
    table, turned = gains(25, 100, 650), dial(25, 100, 650)
    figure = dial_figure(table, turned)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [f"{student} student: {text}" for student in ("RGB", "depth") for text in OVER.values()]
    for ax, (_, rows) in zip(figure.axes, table.groupby(["student", "control"], sort=False), strict=True):
        expected = {TITLES[name]: rows[rows.method == name].gain.tolist() for name in TITLES}
        assert drawn(ax) == expected
        spans = {tuple(segment[:, 1]) for lines in ax.collections for segment in lines.get_segments()}
        assert spans == set(zip(rows.low, rows.high, strict=True))
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["25", "100", "650"]
    assert "labelled scenes" in words(figure)
    assert "gain in mIoU (points)" in words(figure)


def test_values_keep_the_dial_s_order_and_a_value_without_a_run_leaves_a_gap():
    table = gains(650, 25, methods=("kd",), students=("rgb",), controls=("baseline",))
    (ax,) = dial_figure(table, dial(25, 100, 650)).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["25", "100", "650"]
    np.testing.assert_equal(drawn(ax), {"KD": [1, np.nan, 0]})


def test_a_method_without_a_value_has_a_gap_there():
    table = gains(25, 100, 650, students=("rgb",), controls=("baseline",))
    table = table[(table.method != "kd") | (table.value != "100")]
    (ax,) = dial_figure(table, dial(25, 100, 650)).axes
    assert np.isnan(drawn(ax)["KD"]).tolist() == [False, True, False]


def test_one_value_is_a_list_of_methods_with_their_intervals():
    table = gains(100, students=("rgb",), controls=("baseline",))
    (ax,) = dial_figure(table, dial(100)).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["CroDiNo-KD", "KD"]  # sorted by gain
    dots = [(line.get_ydata()[0], line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert dots == [(1, 0), (0, 1)]
    assert [tuple(lines.get_segments()[0][:, 0]) for lines in ax.collections] == [(-2, 2), (-1, 3)]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first is on top
    assert ax.get_xlabel() == "gain in mIoU (points)"


def test_too_few_seeds_are_drawn_without_an_interval():
    for values in ((100,), (25, 100)):
        table = gains(*values, seeds=1).assign(low=np.nan, high=np.nan)
        assert "data:image/png" in dial_figure(table, dial(*values))._repr_html_()


def test_controls_of_equal_time_have_no_panel():
    table = gains(25, 100, students=("rgb",), controls=("baseline:x2", "self-training"))
    assert [ax.get_title(loc="left") for ax in dial_figure(table, dial(25, 100)).axes] == [
        "RGB student: gain over self-training"
    ]


def test_a_table_without_a_shown_gain_or_without_a_column_is_refused():
    with pytest.raises(ValueError, match="dial some has no gain yet"):
        dial_figure(gains(25, controls=("baseline:x2",)), dial(25))
    with pytest.raises(ValueError, match="no column seeds"):
        dial_figure(gains(25).drop(columns="seeds"), dial(25))


def test_the_caption_has_the_seeds_and_what_intervals_cover():
    table, turned = gains(25, 100), dial(25, 100)
    caption = dial_caption(table)
    assert "means of 3 seeds; bars: 95 % intervals over paired seeds and test images" in caption
    assert "a test needs eight" in caption
    assert "means of 1 seed;" in dial_caption(table.assign(seeds=1))
    assert "means of 1 to 3 seeds" in dial_caption(table.assign(seeds=[1, *[3] * (len(table) - 1)]))
    assert "Descriptive" not in dial_caption(table.assign(seeds=8))
    assert caption in words(dial_figure(table, turned))


def test_a_headline_method_has_one_colour_in_every_figure():
    colours = method_colours(["kd", "crodino-kd:c2-full", "csk-net"])
    assert colours["kd"] == method_colours(["cwd", "kd"])["kd"]
    assert len(set(colours.values())) == 3


@pytest.mark.parametrize("values", [(100,), (25, 50, 100, 200, 650)])
def test_it_fits_a_page_also_with_the_methods_of_all_readings(values):
    methods = tuple(DIALS["readings"].settings["methods"])
    figure = dial_figure(gains(*values, methods=methods), dial(*values))
    figure.draw_without_rendering()
    (width, height), box = figure.get_size_inches(), figure.get_tightbbox()
    assert width * 25.4 == pytest.approx(WIDTHS_MM["page"])
    assert height * 25.4 < 247
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.02


def test_dials_are_saved_with_their_numbers_and_unturned_ones_are_named(tmp_path, monkeypatch):
    base = Study(StudyConfig.parse({**BASE, "profile": "smoke", "study": "base", "labelled": 12}), tmp_path)
    table = gains(25, 100)
    tables = {"labels": table, "evidence": table.iloc[:0]}
    monkeypatch.setattr("crodino_lib.figures.dials.dial_table", lambda one, base: tables[one.name])
    text = save_dials([DIALS["labels"], DIALS["evidence"]], base)
    assert "evidence: no finished runs" in text
    assert DIALS["labels"].prediction in text
    assert {path.name for path in (tmp_path / "base").glob("*/*")} == {
        "dial-labels.csv", "dial-labels.pdf", "dial-labels.svg", "dial-labels.png", "dial-labels.txt"
    }  # fmt: skip
    assert len(pd.read_csv(tmp_path / "base" / "tables" / "dial-labels.csv")) == len(table)


ABLATION = Dial.parse(
    {
        **{"name": "parts", "title": "steps", "setting": "steps", "values": (200, 800), "students": ("rgb", "depth")},
        **{"prediction": "Nothing moves.", "source": "Us", "reference": "crodino-kd"},
        "groups": {
            "controls": {"kd": "KD"},
            "left out": {"crodino-kd": "reference", "crodino-kd:no-contrast": "no contrast"},
            "not run": {"crodino-kd:c2": "scenes"},
        },
    }
)
PARTS = ("kd", "crodino-kd", "crodino-kd:no-contrast")


def test_the_methods_of_an_ablation_are_those_of_its_groups():
    assert ABLATION.settings["methods"] == ["baseline", *PARTS, "crodino-kd:c2"]


def test_an_ablation_lists_its_variants_under_headings_beside_the_band_of_the_reference():
    table = gains(200, methods=PARTS)
    figure = ablation_figure(table, ABLATION)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["RGB student", "depth student"]
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["controls", "KD", "left out", "reference", "no contrast"]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal", "bold", "normal", "normal"]
    for ax, student in zip(figure.axes, ("rgb", "depth"), strict=True):
        rows = table[(table.student == student) & (table.control == "baseline")].set_index("method")
        marks = {line.get_ydata()[0]: line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"}
        assert marks == {1: rows.gain["kd"], 3: rows.gain["crodino-kd"], 4: rows.gain["crodino-kd:no-contrast"]}
        (band,) = ax.patches
        assert (band.get_x(), band.get_x() + band.get_width()) == (rows.low["crodino-kd"], rows.high["crodino-kd"])
    assert "steps: 200. Difference in mIoU to baseline." in figure.caption


def test_a_difference_far_from_all_others_is_a_number_at_the_edge():
    table = gains(200, methods=PARTS, students=("rgb",)).assign(gain=[1, 1, 0, 0, -50, -50.0])
    half = np.array([9, 9, 1, 1, 1, 1])
    table = table.assign(low=table.gain - half, high=table.gain + half)
    (ax,) = ablation_figure(table, ABLATION).axes
    assert [text.get_text().strip() for text in ax.texts] == ["\u25c2 -50.0"]
    marks = {line.get_ydata()[0]: line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"}
    assert marks == {1: 1, 3: 0}  # a wide interval is drawn
    assert -15 < ax.get_xlim()[0] < -8


def test_an_ablation_over_a_control_that_nothing_was_compared_with_says_so():
    with pytest.raises(ValueError, match="no method of parts was compared with 'self-training' yet"):
        ablation_figure(gains(200, methods=PARTS, controls=("baseline",)), ABLATION, "self-training")
    with pytest.raises(ValueError, match="choose one of 200, 800"):
        ablation_figure(gains(200, 800, methods=PARTS), ABLATION)


def test_an_ablation_has_a_file_per_value_and_a_dial_one():
    table = gains(200, 800, methods=PARTS)
    found = drawings(table, ABLATION)
    assert list(found) == ["dial-parts-200", "dial-parts-800"]
    for value, (numbers, draw) in zip((200, 800), found.values(), strict=True):
        assert set(numbers.value) == {str(value)}
        assert f"steps: {value}" in draw(numbers).caption
    assert list(drawings(table, dial(200, 800))) == ["dial-some"]
