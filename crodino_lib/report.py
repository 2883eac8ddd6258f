"""Write the first page of a study: which method helps, how surely, and links to everything that the study made."""

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

import pandas as pd

from crodino_lib.figures.base import count, data_uri, printed
from crodino_lib.figures.charts import gains
from crodino_lib.figures.dials import SHOWN, dial_figure
from crodino_lib.methods.registry import method_title
from crodino_lib.study.dial_runs import dial_table
from crodino_lib.study.dials import DIALS, Dial
from crodino_lib.study.gains import CONTROLS, gain_table, scores_of
from crodino_lib.study.pages import write_page
from crodino_lib.study.runs import Run, environment
from crodino_lib.study.statistics import interval_over
from crodino_lib.study.study import Study
from crodino_lib.study.tables import as_text, caption, comparison_table

MOST_ROWS = 8
WITHOUT_SECOND_SENSOR = {*CONTROLS, "baseline-aux"}
TITLE = re.compile("<title>(.*?)</title>", re.DOTALL)
OVER = {name: CONTROLS[name].removeprefix("gain ") for name in SHOWN}  # control -> what a gain is over


def write_report(study: Study, runs: Iterable[Run]) -> Path:
    """Write ``index.html`` into a study's folder, atomically, and return its path; links only to pages that exist."""
    runs = list(runs)
    scores = scores_of(runs)
    table, found = comparison_table(runs, scores), gain_table(scores)
    test = table[table.split == "test"]
    answers = [answer(found[found.sensors == one], one) for one in study.config.sensors]
    dials = [DIALS[name].brief for name in study.config.dials]
    turned = [(dial, gained) for dial in dials if len(gained := dial_table(dial, study))]
    drawn = [gains(table)] if test.gain.notna().any() else []
    body = [
        f"<h1>Which method helps? {escape(study.config.name)}</h1>",
        f'<p class="answer">{escape(" ".join(answers))}</p><p class="caveat">{escape(study.caveat())}</p>',
        *[figure._repr_html_() for figure in drawn],
        "<h2>The table</h2>",
        as_html(shortest(test)),
        f'<p class="caveat">{escape(caption(test, study.caveat()))}</p>',
        *[_dial(one, gained) for one, gained in turned],
        _manifolds(study.figures / "latent_manifolds.png"),
        "<h2>Everything else</h2>",
        _links(study.folder),
        fold("Every row, on every split", as_text(table)),
        fold("Settings", pd.Series(study.config.identity()).rename_axis("setting").reset_index(name="value")),
        fold("Versions and machine", pd.Series(environment()).rename_axis("part").reset_index(name="version")),
    ]
    return write_page(study.folder / "index.html", study.config.name, "\n".join(body), links={}, contents=False)


def answer(table: pd.DataFrame, student: str) -> str:
    """Return one sentence on whether a method helps a student, from ``gain_table``.

    A method helps where its interval is above zero over every control there is: as many steps, and self-training.
    """
    table = table[~table.method.isin(WITHOUT_SECOND_SENSOR) & table.control.isin(OVER)].sort_values("gain")
    name = f"the {printed(student)} student"
    if table.empty:
        return f"Whether a method helps {name} is not known: that takes runs of a method and of its baseline."
    fewest, most = table.seeds.min(), table.seeds.max()
    ending = f"({count(most, 'seed')}, 95 % intervals over {interval_over(fewest, most)})."
    gained = table[table.low > 0]
    helping = [name for name, rows in table.groupby("method") if (rows.low > 0).all()]
    if helping:
        best = gained[gained.method.isin(helping)].method.iloc[-1]
        others = [name for name in helping if name != best]
        more = f"; so {'does' if len(others) == 1 else 'do'} {', '.join(map(method_title, others))}" if others else ""
        rows = table[table.method == best].sort_values("control")
        return f"{method_title(best)} helps {name}: {_in_words(rows)}{more} {ending}"
    nearest = (gained if len(gained) else table.sort_values(["control", "gain"], ascending=[False, True])).iloc[-1:]
    found = "helps {} over every control" if len(gained) else "is shown to help {}"
    best = method_title(nearest.method.iloc[0])
    return f"No method {found.format(name)}; {best} comes nearest with {_in_words(nearest)} {ending}"


def _in_words(rows: pd.DataFrame) -> str:
    found = [f"{one.gain:+.1f} points of mIoU [{one.low:.1f}, {one.high:.1f}]" for one in rows.itertuples()]
    return " and ".join(f"{gain} {OVER[control]}" for gain, control in zip(found, rows.control, strict=True))


def shortest(test: pd.DataFrame) -> pd.DataFrame:
    """Return at most eight rows of a split of ``comparison_table`` as text: baselines and the largest gains.

    Rows of a single sensor at test come first: the study is about them.
    """
    ranked = test.assign(first=test.gain.isna(), alone=~test["sensors at test"].str.contains("+", regex=False))
    ranked = ranked.sort_values(["alone", "first", "gain"], ascending=False, kind="stable")
    return as_text(ranked.head(MOST_ROWS).sort_values("sensors at test", kind="stable")).drop(columns="split")


def as_html(table: pd.DataFrame) -> str:
    """Return a table as HTML, its text escaped and never cut."""
    with pd.option_context("display.max_colwidth", None):
        return table.to_html(index=False, border=0, na_rep="-")


def fold(title: str, table: pd.DataFrame) -> str:
    """Return a table that a page shows after a click on its title."""
    return f"<details><summary>{escape(title)}</summary>{as_html(table)}</details>"


def _dial(dial: Dial, gained: pd.DataFrame) -> str:
    """Return a dial's heading, its prediction and its figure."""
    predicted = f"<p>Predicted before the runs: {escape(f'{dial.prediction} ({dial.source})')}.</p>"
    return f"<h2>A dial: {escape(dial.title)}</h2>{predicted}{dial_figure(gained, dial)._repr_html_()}"


def _manifolds(drawing: Path) -> str:
    """Return the drawing that notebook 07 has made, or nothing."""
    caption = drawing.with_suffix(".txt")
    if not caption.exists():
        return ""
    picture = f'<img style="max-width: 32rem" alt="Shared and private halves" src="{data_uri(drawing.read_bytes())}">'
    heading = "<h2>Shared and private, beside the untrained network</h2>"
    return f"{heading}{picture}<p class='caveat'>{escape(caption.read_text())}</p>"


def _links(folder: Path) -> str:
    """Return links to the executed notebooks, the explorer and the book, as far as they are there."""
    pages = [(TITLE.search(page.read_text()).group(1), page) for page in sorted(folder.glob("notebooks/*.html"))]
    others = {"Explorer of the latent spaces": "explorer.html", "Book": "book/_build/html/index.html"}
    pages += [(title, folder / place) for title, place in others.items() if (folder / place).exists()]
    items = [f'<li><a href="{page.relative_to(folder).as_posix()}">{title}</a></li>' for title, page in pages]
    return f"<ul>{''.join(items)}</ul>"
