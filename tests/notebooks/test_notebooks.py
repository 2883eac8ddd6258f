"""The notebooks: their contract, their parameters, and all of them end to end at the smoke profile."""

import ast
import json
import re
import shutil
from itertools import pairwise

import papermill
import pytest

from crodino_lib.cli import main
from crodino_lib.config import StudyConfig
from crodino_lib.study.notebooks import NotebookFailed, assigned_literals, execute, notebook_parameters, notebooks
from crodino_lib.study.pipeline import run_study

SERIES = notebooks()


@pytest.fixture(params=SERIES, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text())


def source(cell):
    return "".join(cell["source"])


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_series_is_there():
    assert [path.stem[:2] for path in SERIES] == [
        "00",
        "01",
        "02",
        "03",
        "04",
        "05",
        "06",
        "07",
        "08",
        "09",
        "10",
        "11",
        "12",
        "13",
        "14",
        "15",
    ]


def test_outputs_are_stripped_and_ids_are_stable(notebook):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code(notebook))
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"\d\d-\d\d", cell_id) for cell_id in ids)


def test_the_first_cells_are_title_parameters_and_set_up(notebook):
    title, parameters, setup = notebook["cells"][:3]
    for promised in ("**Question.**", "**Inputs**", "**Outputs**", "**Time on two cores**"):
        assert promised in source(title)
    assert parameters["metadata"]["tags"] == ["parameters"]
    assert "Study.from_notebook(globals())" in source(setup)
    assert setup["metadata"]["tags"] == ["set-up"]  # its code is folded on the page


def test_the_parameters_are_plain_literals_that_a_study_knows_at_their_defaults(notebook):
    tree = ast.parse(source(notebook["cells"][1]))
    found = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body}
    assert StudyConfig.parse(found) == StudyConfig.parse({})


def test_it_is_short_and_ends_with_summary_references_and_exercises(notebook):
    assert len([cell for cell in code(notebook) if "exercise" not in cell["metadata"].get("tags", [])]) <= 25
    assert all(len(source(cell).splitlines()) <= 33 for cell in code(notebook))
    prose = "\n".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    parts = [prose.index(f"\n## {part}\n") for part in ("Summary", "References", "Exercises")]
    assert parts == sorted(parts)
    assert re.search(r"\]\(https://", prose[parts[1] : parts[2]])


def test_it_leads_to_its_neighbours(request, notebook):
    stem = request.node.callspec.id
    place = next(i for i, path in enumerate(SERIES) if path.stem == stem)
    for other in SERIES[max(0, place - 1) : place + 2]:
        assert (f"]({other.name})" in source(notebook["cells"][0])) == (other.stem != stem)


def exercises(notebook):
    """Return the cells that a reader fills in, each with the code of the answer folded below it."""
    cells = notebook["cells"]
    asked = [i for i, cell in enumerate(cells) if "exercise" in cell["metadata"].get("tags", [])]
    answers = [
        re.search(r"<summary>Answer</summary>\n\n```python\n(.*?)\n```", source(cells[i + 1]), re.S) for i in asked
    ]
    return {cells[i]["id"]: answer and answer.group(1) for i, answer in zip(asked, answers, strict=True)}


def test_an_exercise_has_an_empty_cell_and_a_folded_answer_below(notebook):
    found = exercises(notebook)
    assert found
    assert all(found.values())
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    assert all(source(cells[cell_id]).strip() == "# your answer" for cell_id in found)
    prose = "\n".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert prose.count("<summary>Answer</summary>") == prose.count("</details>") >= len(found)


def test_it_needs_no_network_no_absolute_path_and_no_installation(notebook):
    text = "\n".join(source(cell) for cell in code(notebook))
    assert not re.search(r"https?://|pip install|[\"']/(?!/)\w+|^\s*[!%]", text, re.MULTILINE)


def test_the_functions_of_a_notebook_are_those_that_it_teaches(notebook):
    defined = [
        n for cell in code(notebook) for n in ast.walk(ast.parse(source(cell))) if isinstance(n, ast.FunctionDef)
    ]
    assert all(function.end_lineno - function.lineno < 14 for function in defined)


class TestParameters:
    def test_names_come_from_the_cells_that_ran_so_a_stray_one_is_seen(self):
        cells = ["", "# Parameters: ours\nprofile = 'quick'", "# Parameters\nprofil = 'smoke'", "x = 1"]
        namespace = {"In": cells, "profile": "quick", "profil": "smoke", "x": 1}
        assert notebook_parameters(namespace) == {"profile": "quick", "profil": "smoke"}

    def test_a_cell_edited_and_run_again_replaces_what_it_set(self):
        cells = [
            "",
            "# Parameters: ours\nprofile = 'quick'\nepoch = 3",
            "x = 1",
            "profile = 'quick'\nepochs = 3\nseeds = 1",
        ]
        namespace = {"In": cells, "profile": "quick", "epoch": 3, "epochs": 3, "seeds": 1, "x": 1}
        assert notebook_parameters(namespace) == {"profile": "quick", "epochs": 3, "seeds": 1}

    def test_a_cell_of_one_more_setting_adds_it(self):
        cells = ["# Parameters: ours\nprofile = 'cpu'\nepochs = 3", "lab = 1", "seeds = 3"]
        assert notebook_parameters({"In": cells, "profile": "cpu", "epochs": 3, "seeds": 3}) == {
            "profile": "cpu", "epochs": 3, "seeds": 3
        }  # fmt: skip

    @pytest.mark.parametrize("comment", ["# Parameters: ours", "# my own settings", ""])
    def test_the_comment_of_the_cell_may_be_any(self, comment):
        cells = [
            f"{comment}\nprofile = 'quick'\nseeds = 2\nprofil = 1",
            "study = open('study')",
            "import os",
            "%matplotlib inline",
        ]
        namespace = {"In": cells, "profile": "quick", "seeds": 2, "profil": 1, "study": "x"}
        assert notebook_parameters(namespace) == {"profile": "quick", "seeds": 2, "profil": 1}

    def test_without_a_parameters_cell_the_reader_is_told_where_to_start(self):
        with pytest.raises(ValueError, match="run the notebook from its top"):
            notebook_parameters({"In": ["x = 1"]})

    def test_only_plain_assignments_of_literals_are_parameters(self):
        assert assigned_literals("a = 1\nb = [2, None]  # unit\n# c = 3\nd = -1.5") == ["a", "b", "d"]
        assert assigned_literals("a = 1\nprint(a)") == []
        assert assigned_literals("a = b") == []


SMOKE = StudyConfig.parse({"profile": "smoke", "study": "smoke"})


@pytest.fixture(scope="module")
def smoke_home(tmp_path_factory):
    """A folder with the notebooks and nothing else, as after a fresh clone; a reader has filled in the exercises."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "notebooks").mkdir()
    for path in SERIES:
        notebook = json.loads(path.read_text())
        answers = exercises(notebook)
        for cell in notebook["cells"]:
            cell["source"] = answers.get(cell["id"]) or cell["source"]
        (folder / "notebooks" / path.name).write_text(json.dumps(notebook))
    return folder


@pytest.fixture
def smoke(smoke_home, monkeypatch):
    """The folder of the study that the first test makes."""
    monkeypatch.setenv("CRODINO_HOME", str(smoke_home))
    monkeypatch.setenv("CRODINO_CACHE", str(smoke_home / "cache"))
    return smoke_home / "results" / "local" / "smoke"


class TestEndToEnd:
    """In order: the first test makes the study that the others look at."""

    def test_a_study_runs_from_nothing_to_its_report(self, smoke, capsys):
        report = run_study(SMOKE)
        assert report == smoke / "index.html"
        assert str(report) in capsys.readouterr().out
        for notebook in SERIES:
            assert (smoke / "notebooks" / f"{notebook.stem}.html").stat().st_size > 10_000
        trained = {path.parent.parent.name for path in smoke.glob("runs/rooms/*/*/run.json")}
        assert trained >= set(SMOKE.methods)

    def test_settings_that_differ_are_rows_of_their_own(self, smoke):
        """In the first exercise of notebook 04 one seed is trained with three settings: three rows of one seed each."""
        executed = json.loads((smoke / "notebooks" / "04_crodino_kd.ipynb").read_text())
        answer = next(cell for cell in executed["cells"] if "exercise" in cell["metadata"].get("tags", []))
        (shown,) = (output["data"] for output in answer["outputs"] if "data" in output)
        page = "".join(shown["text/html"])
        rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)]
        seeds = {cells[0]: cells[-3] for cells in rows if len(cells) > 2 and "rgb" in cells}
        names = ["crodino-kd", "crodino-kd:no-contrast", "crodino-kd:no-disentanglement"]
        assert [seeds[name] for name in names] == ["1", "1", "1"]

    def test_the_report_answers_first_and_links_to_every_notebook(self, smoke):
        page = (smoke / "index.html").read_text()
        for notebook in SERIES:
            assert f'href="notebooks/{notebook.stem}.html"' in page
        assert "for tests: shows that everything runs" in page
        assert page.index("the RGB student") < page.index("<img") < page.index("<table")
        assert page.count("<img") == 2  # gains, manifolds
        assert page.count("<details>") == 3
        assert page.index("</table>") > page.index("<td>baseline")
        assert page[: page.index("</table>")].count("<tr>") <= 9  # a heading and eight rows

    def test_no_request_leaves_a_page(self, smoke, chromium):
        """A page shows pictures and formulas without a network, and asks for nothing."""
        asked, tab = [], chromium.new_page()
        tab.route("**", lambda route: (asked.append(route.request.url), route.continue_()))
        pages = [smoke / "index.html", *sorted((smoke / "notebooks").glob("*.html"))]
        for page in pages:
            tab.goto(page.as_uri(), wait_until="load")
        beside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
        tab.close()
        assert not beside
        assert len([url for url in asked if url.startswith("file:")]) == len(pages)

    def test_a_page_leads_on_and_has_its_formulas_contents_and_no_cut_cells(self, smoke):
        pages = {path.stem: path.read_text() for path in (smoke / "notebooks").glob("*.html")}
        for before, after in pairwise(notebook.stem for notebook in SERIES):
            assert f'href="{after}.html"' in pages[before]
            assert f'href="{before}.html"' in pages[after]
        assert "<math" in pages["04_crodino_kd"]
        for page in pages.values():
            text = re.sub(r"<script.*?</script>|<style.*?</style>|<pre.*?</pre>", "", page, flags=re.DOTALL)
            assert "$$" not in text
            assert "...</td>" not in text
            assert re.search(r'<aside><ol><li><a href="#', page)
            assert page.count("<details><summary>Parameters") == 2
            assert "</summary></details>" not in page  # an answer is folded, not beside its fold

    def test_called_again_it_trains_and_executes_nothing(self, smoke, monkeypatch, capsys):
        monkeypatch.setattr("crodino_lib.study.runs.train", lambda *args: pytest.fail("trained again"))
        monkeypatch.setattr("crodino_lib.study.pipeline.execute", lambda *args, **kw: pytest.fail("executed again"))
        run_study(SMOKE)
        assert f"notebooks: {len(SERIES)} in all, 0 to execute" in capsys.readouterr().out

    def test_the_tables_say_how_many_seeds_and_images_there_are(self, smoke):
        assert "| seeds |" in (smoke / "tables" / "comparison.md").read_text().splitlines()[0]
        header = (smoke / "tables" / "comparison.csv").read_text().splitlines()[0]
        assert "seeds,test images,training images" in header

    def test_the_command_prints_what_notebook_07_has_computed(self, smoke, capsys):
        for record in smoke.glob("runs/rooms/crodino-kd/*/run.json"):
            if json.loads(record.read_text())["config"]["settings"]:
                shutil.rmtree(record.parent)  # an exercise has trained it
        assert main(["latents", "smoke", "--methods", "crodino-kd"]) == 0
        printed = capsys.readouterr().out
        assert "crodino-kd seed 0: " in printed
        assert "(at most 200)" in printed
        assert "computing" not in printed  # the results were kept with the run

    def test_the_explorer_is_one_page(self, smoke, monkeypatch, capsys):
        first_two = lambda distances, *settings: (distances[:, :2], "")  # noqa: E731
        monkeypatch.setattr("crodino_lib.analysis.umap_embedding.umap_2d", first_two)  # compiles for seconds
        assert main(["explore", "smoke", "--methods", "crodino-kd"]) == 0
        assert str(smoke / "explorer.html") in capsys.readouterr().out
        assert "crodino-kd seed 0, untrained" in (smoke / "explorer.html").read_text()


def shortened(path, code):
    """Write the first notebook with its first two cells and one of our own; return its path."""
    notebook = json.loads(SERIES[0].read_text())
    own = {"cell_type": "code", "id": "xx", "metadata": {}, "outputs": [], "execution_count": None, "source": code}
    path.write_text(json.dumps({**notebook, "cells": [*notebook["cells"][:2], own]}))
    return path


def test_papermill_typed_by_hand_refuses_a_misspelt_parameter(tmp_path):
    code = "from crodino_lib.study.study import Study\nStudy.from_notebook(globals())"
    path = shortened(tmp_path / "00_short.ipynb", code)
    with pytest.raises(papermill.PapermillExecutionError, match=r"no parameter 'profil'.*Did you mean 'profile'\?"):
        papermill.execute_notebook(str(path), str(tmp_path / "out.ipynb"), {"profil": "smoke"}, progress_bar=False)


def test_the_error_of_a_failing_cell_names_notebook_cell_and_log(tmp_path):
    path = shortened(tmp_path / "00_broken.ipynb", "print('the last line')\nraise KeyError('broken')")
    with pytest.raises(NotebookFailed, match=r"(?s)00_broken\.ipynb, cell \d.*KeyError.*broken.*the last line"):
        execute(path, tmp_path / "out", SMOKE, key="k")
    assert (tmp_path / "out" / "00_broken.ipynb").exists()
    assert not (tmp_path / "out" / ".00_broken.json").exists()
