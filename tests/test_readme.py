"""What README and docs say is what the reference tables and the files say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = ROOT / "results" / "reference"
NOT_SHOWN = (("quality", "blank"), ("quality", "night"), ("evidence", "0.0"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_a_page_points_to_exists(page):
    paths = [path for path in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in path]
    assert [path for path in paths if not (page.parent / path).exists()] == []


def test_the_map_names_every_notebook():
    there = {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(re.findall(r"\((notebooks/[^)]+)\)", README)) == there


def test_it_fits_on_a_page_and_nothing_is_left_to_fill_in():
    assert len(README.splitlines()) <= 150
    assert not re.search(r"<!--|TODO|FIXME|TOUR_", README)


def test_the_routes_name_files_and_functions_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for section, most in (("batch: from a file", 12), ("latent: from an image", 10)):
        route = text.split(section)[1].split("\n## ")[0]
        steps = re.findall(r"^\d+\. `([\w/]+\.py)`(?: `([\w.]+)`)?", route, re.M)
        assert 5 <= len(steps) <= most
        for file, name in steps:
            source = (ROOT / "crodino_lib" / file).read_text()
            assert not name or re.search(rf"(def|class) {name.split('.')[-1]}\b", source), (file, name)


def test_reference_results_are_small_and_their_tables_are_rebuilt_from_the_records(tmp_path):
    from crodino_lib.study.study import Study
    from crodino_lib.study.tables import save_tables

    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) < 22e6
    dials = [REFERENCE / "dials" / name / "study.json" for name in ("rooms-dials", "rooms-dials-nyu-50")]
    for file in [*REFERENCE.glob("*/study.json"), *dials]:  # the other values of dials: the test below
        study = Study.open(str(file.parent))
        save_tables(study.finished()[0], tmp_path, study.caveat())
        kept = [table for table in tmp_path.iterdir() if (file.parent / "tables" / table.name).exists()]
        assert {"runs.csv", "comparison.csv", "comparison.md", "gains.csv", "costs.csv", "classes.csv"} <= {
            t.name for t in kept
        }
        for table in kept:
            assert table.read_text() == (file.parent / "tables" / table.name).read_text()


def test_gains_of_the_reference_dials_are_rebuilt_from_the_records(tmp_path):
    from crodino_lib.study.dial_runs import dial_table
    from crodino_lib.study.dials import DIALS
    from crodino_lib.study.study import Study

    base = Study.open(str(REFERENCE / "dials" / "rooms-dials"))
    tables = {path.stem.removeprefix("dial-"): path for path in base.folder.glob("tables/dial-*.csv")}
    assert {"rows", "control"} <= set(tables) <= set(DIALS)
    for name, path in tables.items():
        dial_table(DIALS[name], base).to_csv(tmp_path / path.name, index=False, float_format="%.6g")
        assert (tmp_path / path.name).read_text() == path.read_text()


def test_gains_in_the_readme_are_those_of_the_reference():
    import pandas as pd

    said = [
        ("kd", "rows", "50", *rest)
        for rest in (("rgb", "baseline"), ("rgb", "self-training"), ("depth", "self-training"))
    ]
    said += [("kd", dial, value, "rgb", "self-training") for dial, value in NOT_SHOWN]
    said += [("kd", "labels", "25", "rgb", "self-training"), ("kd", "budget", "50", "rgb", "self-training")]
    said += [("kd", "oracle", value, "rgb", "self-training") for value in ("0.0", "1.0")]
    said += [("kd", "labels", "650", "rgb", control) for control in ("baseline", "self-training")]
    said += [("crodino-kd", "rows", "50", "rgb", control) for control in ("baseline", "self-training")]
    said += [("csk-net", "rows", "50", student, "self-training") for student in ("rgb", "depth")]
    said += [("kd", "nyu", "50", "rgb", control) for control in ("baseline", "self-training")]
    for method, dial, value, student, control in said:
        table = pd.read_csv(REFERENCE / "dials" / "rooms-dials" / "tables" / f"dial-{dial}.csv", dtype={"value": str})
        mine = (
            (table.method == method) & (table.value == value) & (table.student == student) & (table.control == control)
        )
        (row,) = table[mine].itertuples()
        assert row.seeds >= (8 if (method, dial, student) == ("kd", "rows", "rgb") else 3)
        assert ("significant" in row.verdict) is (row.seeds >= 8)
        assert re.search(
            rf"{row.gain:.1f}\D[^.]{{0,40}}\[{row.low:.1f}, {row.high:.1f}\]|{row.gain:.1f} \[{row.low:.1f}", README
        )


def test_what_the_readme_says_of_latents_is_what_their_table_shows():
    import pandas as pd

    from crodino_lib.analysis.gain_correlations import rank_correlations

    text = " ".join(README.split())
    table = pd.read_csv(REFERENCE / "dials" / "rooms-dials" / "tables" / "latent_scores.csv")
    models = table[(table.null == "value") & table.gain.notna() & (table.variant != "crodino-kd:no-skip")]
    assert f"Over {len(models)} models of {models.variant.nunique()} variants, no score" in text
    assert not rank_correlations(models, within=("study", "method")).clear.any()
    short = models[models.study == "rooms-dials-ablation-200"].groupby("variant")
    means, counts = short[["mixing", "gain"]].mean(), short.size()
    weighed = [f"crodino-kd{variant}" for variant in ("", ":contrast-1", ":contrast-3")]
    assert (counts[weighed] >= 3).all()
    reference, one, three = means.loc[weighed].itertuples()
    assert f"{reference.mixing:.2f} of a region's neighbours" in text
    assert f"at weight 0.1, {one.mixing:.2f} at 1 and {three.mixing:.2f} at 3" in text
    assert f"from {reference.gain:.1f} to {one.gain:.1f} and {three.gain:.1f} points" in text
