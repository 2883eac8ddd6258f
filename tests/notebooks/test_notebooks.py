"""The notebooks: their contract, their parameters, and all of them end to end at the smoke profile."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import papermill
import pytest
from crodino_lib.study.parameters import (
    assigned_names,
    describe_parameters,
    find_notebook,
    notebook_parameters,
    notebooks,
)

from crodino_lib.cli import main
from crodino_lib.config import StudyConfig, home
from crodino_lib.study.notebooks import NotebookFailed, execute
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
    assert [path.stem[:2] for path in SERIES] == ["00", "01", "02", "03", "04", "05", "06", "07", "10", "11"]


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


def test_the_parameters_are_plain_literals_that_a_study_knows_at_their_defaults(notebook):
    tree = ast.parse(source(notebook["cells"][1]))
    found = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body}
    assert StudyConfig.parse(found) == StudyConfig()


def test_it_is_short_and_ends_with_exercises(notebook):
    assert len(code(notebook)) <= 25
    assert all(len(source(cell).splitlines()) <= 30 for cell in code(notebook))
    assert source(notebook["cells"][-1]).startswith("## Exercises")


def test_it_needs_no_network_no_absolute_path_and_no_installation(notebook):
    text = "\n".join(source(cell) for cell in code(notebook))
    assert not re.search(r"https?://|pip install|[\"']/(?!/)\w+|^\s*[!%]", text, re.MULTILINE)


def test_no_function_of_the_library_lives_in_a_notebook(notebook):
    defined = [
        n for cell in code(notebook) for n in ast.walk(ast.parse(source(cell))) if isinstance(n, ast.FunctionDef)
    ]
    assert all(len(function.body) <= 2 for function in defined)


class TestParameters:
    def test_every_parameter_is_described(self):
        for path in SERIES:
            rows = describe_parameters(path)
            assert {row["parameter"] for row in rows} >= {"study", "profile", "dataset", "root", "sensors", "epochs"}
            assert all(row["meaning"] and row["type"] and row["default"] for row in rows)

    def test_a_notebook_is_found_by_number_stem_or_path(self):
        for name in ("4", "04", "04_crodino_kd", "notebooks/04_crodino_kd.ipynb"):
            assert find_notebook(name).stem == "04_crodino_kd"
        with pytest.raises(ValueError, match="Did you mean '04_crodino_kd'"):
            find_notebook("04_crodino")

    def test_names_come_from_the_cells_that_ran_so_a_stray_one_is_seen(self):
        cells = ["", "# Parameters: ours\nprofile = 'quick'", "# Parameters\nprofil = 'smoke'", "x = 1"]
        namespace = {"In": cells, "profile": "quick", "profil": "smoke", "x": 1}
        assert notebook_parameters(namespace) == {"profile": "quick", "profil": "smoke"}

    def test_a_cell_mended_and_run_again_replaces_what_it_said(self):
        cells = ["# Parameters: ours\nepoch = 3", "x = 1", "# Parameters: ours\nepochs = 3"]
        assert notebook_parameters({"In": cells, "epoch": 3, "epochs": 3}) == {"epochs": 3}

    def test_without_a_parameters_cell_the_reader_is_told_where_to_start(self):
        with pytest.raises(ValueError, match="run the notebook from its top"):
            notebook_parameters({"In": ["x = 1"]})

    def test_assigned_names_are_those_of_plain_assignments(self):
        assert assigned_names("a = 1\nb = [2]  # unit\n# c = 3") == ["a", "b"]


@pytest.fixture(scope="module")
def smoke_home(tmp_path_factory):
    """A folder with the notebooks and nothing else, as after a fresh clone."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "notebooks").symlink_to(home() / "notebooks")
    before = {name: os.environ.get(name) for name in ("CRODINO_HOME", "CRODINO_CACHE")}
    os.environ.update(CRODINO_HOME=str(folder), CRODINO_CACHE=str(folder / "cache"))
    yield folder
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def _smoke_environment(smoke_home, monkeypatch):
    """Undo what the suite's own fixture sets for each test."""
    monkeypatch.setenv("CRODINO_CACHE", str(smoke_home / "cache"))


SMOKE = StudyConfig(profile="smoke", study="smoke")


@pytest.mark.usefixtures("_smoke_environment")
class TestEndToEnd:
    """In order: the first test makes the study that the others look at."""

    def test_a_study_runs_from_nothing_to_its_report(self, smoke_home, capsys):
        report = run_study(SMOKE)
        assert report == smoke_home / "results" / "local" / "smoke" / "index.html"
        page = report.read_text()
        for notebook in SERIES:
            assert f'href="notebooks/{notebook.stem}.html"' in page
            assert (report.parent / "notebooks" / f"{notebook.stem}.html").stat().st_size > 10_000
        assert "for tests: shows that everything runs" in page
        assert "latent_manifolds.png" in page
        assert str(report) in capsys.readouterr().out

    def test_called_again_it_trains_and_executes_nothing(self, monkeypatch, capsys):
        monkeypatch.setattr("crodino_lib.study.runs.train", lambda *args: pytest.fail("trained again"))
        monkeypatch.setattr("crodino_lib.study.pipeline.execute", lambda *args, **kw: pytest.fail("executed again"))
        run_study(SMOKE)
        assert capsys.readouterr().out.count("is up to date") == len(SERIES)

    def test_the_tables_say_how_many_seeds_and_images_there_are(self, smoke_home):
        text = (smoke_home / "results" / "local" / "smoke" / "tables" / "comparison.md").read_text()
        header = text.splitlines()[0]
        assert all(column in header for column in ("seeds", "test images", "training images"))

    def test_what_the_notebook_asked_is_printed_by_the_command(self, smoke_home, capsys):
        assert main(["latents", "smoke", "--methods", "crodino-kd"]) == 0
        told = capsys.readouterr().out
        assert "crodino-kd seed 0: " in told
        assert "asking" not in told  # the notebook's answers were kept with the run
        assert "(at most 1000)" in told
        assert "20 permutations" in told

    def test_the_explorer_is_one_page(self, smoke_home, capsys):
        assert main(["explore", "smoke", "--methods", "crodino-kd"]) == 0
        page = smoke_home / "results" / "local" / "smoke" / "explorer.html"
        assert str(page) in capsys.readouterr().out
        assert page.stat().st_size < 15e6
        assert "crodino-kd seed 0, untrained" in page.read_text()

    def test_papermill_typed_by_hand_refuses_a_misspelt_parameter(self, smoke_home, tmp_path):
        notebook = find_notebook("00")
        command = [
            sys.executable,
            "-m",
            "papermill",
            str(notebook),
            str(tmp_path / "out.ipynb"),
            "-p",
            "profil",
            "smoke",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "there is no parameter 'profil'" in done.stderr
        assert "Did you mean 'profile'?" in done.stderr

    def test_papermill_typed_by_hand_finds_the_finished_runs(self, smoke_home, tmp_path):
        parameters = {"profile": "smoke", "study": "smoke"}
        papermill.execute_notebook(
            str(find_notebook("10")), str(tmp_path / "out.ipynb"), parameters, cwd=tmp_path, progress_bar=False
        )
        assert "crodino-kd" in (tmp_path / "out.ipynb").read_text()


def test_a_failing_cell_is_told_with_notebook_cell_error_and_log(tmp_path):
    notebook = json.loads(SERIES[0].read_text())
    notebook["cells"] = notebook["cells"][:2]
    extra = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "id": "xx"}
    notebook["cells"].append({**extra, "source": "print('the last line')\nraise KeyError('broken')"})
    path = tmp_path / "00_broken.ipynb"
    path.write_text(json.dumps(notebook))
    with pytest.raises(NotebookFailed, match=r"(?s)00_broken\.ipynb, cell \d.*KeyError.*broken.*the last line"):
        execute(path, tmp_path / "out", SMOKE, key="k")
    assert (tmp_path / "out" / "00_broken.ipynb").exists()
    assert not Path(tmp_path / "out" / ".00_broken.json").exists()
