"""Notebook 07's explorer where people use it: JupyterLab itself, in a real browser."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from crodino_lib.study.parameters import find_notebook

from crodino_lib.config import StudyConfig, home
from crodino_lib.study.study import Study

NOTEBOOKS = home() / "notebooks"
SMALL = {"encoder": "mobilenetv3_small_050", "weights": "none"}  # what networks know is not what is tested here
SMOKE = {"profile": "smoke", "study": "smoke-lab", "epochs": 1, **SMALL}
KEPT = ("07-02", "07-10", "07-28")  # set-up, models, explorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The cells of notebook 07 that make its explorer, with runs that are trained already."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    before = {name: os.environ.get(name) for name in ("CRODINO_HOME", "CRODINO_CACHE", "CRODINO_HEADLESS")}
    os.environ.update(CRODINO_HOME=str(folder), CRODINO_CACHE=str(folder / "cache"))
    os.environ.pop("CRODINO_HEADLESS", None)
    (folder / "notebooks").symlink_to(NOTEBOOKS)
    study = Study(StudyConfig.parse(SMOKE))
    for row in ("crodino-kd", "crodino-c1lin"):
        study.run(row)
    notebook = json.loads(find_notebook("07").read_text())
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    # two rows are enough to look at
    cells["07-10"]["source"] = "".join(cells["07-10"]["source"]).replace('"crodino-c3", "crodino-kd-rec", ', "")
    cells["07-28"]["source"] = "chosen = {subject.method: subject for subject in subjects}\n" + "".join(
        cells["07-28"]["source"]
    )
    parameters = {
        **cells["07-01"],
        "source": "\n".join(["# Parameters: of this test"] + [f"{k} = {v!r}" for k, v in SMOKE.items()]),
    }
    last = {
        **cells["07-02"],
        "id": "last",
        "source": "print('brushed', len(explorer.selection), explorer.selection['sensor'].nunique())",
    }
    notebook["cells"] = [parameters, *(cells[name] for name in KEPT), last]
    (folder / "explore.ipynb").write_text(json.dumps(notebook))
    yield folder
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def server(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ip=127.0.0.1",
    ]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait(20)


def test_the_explorer_is_brushed_in_jupyterlab_and_the_next_cell_knows(chromium, server, folder):
    errors = []
    page = chromium.new_page(viewport={"width": 1500, "height": 1300})
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{server}/lab/tree/explore.ipynb?reset", timeout=120_000)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=120_000)
    page.get_by_text("(ipykernel) | Idle").wait_for(timeout=120_000)  # what is run before is lost
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    canvas = page.locator(".jp-OutputArea canvas[data-points]")
    canvas.first.wait_for(timeout=300_000)
    canvas.first.scroll_into_view_if_needed()
    box = canvas.first.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5, steps=8)
    page.mouse.up()
    page.locator(".jp-OutputArea [data-testid=patch]").first.wait_for(timeout=60_000)
    page.screenshot(path=str(folder / "explorer.png"))
    last = page.locator(".jp-Notebook .jp-CodeCell").last
    last.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    told = page.get_by_text("brushed ").last
    page.wait_for_function("() => /brushed [1-9]\\d* 2/.test(document.body.innerText)", timeout=60_000)
    assert "brushed" in told.inner_text()
    assert not errors
