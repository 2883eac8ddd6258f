"""Write the page a study ends with: gains, manifolds, table, notebooks, settings."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path

import pandas as pd

from crodino_lib.io import atomic_write
from crodino_lib.study.notebooks import Executed
from crodino_lib.study.runs import Run, environment
from crodino_lib.study.study import Study
from crodino_lib.study.tables import as_text, caption

FIRST_FIGURES = ("gains", "latent_manifolds")  # what is seen before anything else
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }}
.scroll {{ overflow-x: auto }} table {{ border-collapse: collapse; font-size: 0.875rem }}
th, td {{ padding: 0.3rem 0.6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap }}
.warning {{ background: #fff3cd; padding: 0.6rem 1rem; border-left: 4px solid #b8860b }}
img {{ max-width: 100%; height: auto }} pre {{ background: #f5f5f5; padding: 0.8rem; overflow-x: auto }}
</style></head><body>
<h1>{title}</h1>
<p class="warning">{caveat}</p>
<h2>Which method helps?</h2>
{first}
<div class="scroll">{table}</div>
<p>{caption}</p>
<details><summary>All columns of the table</summary><div class="scroll">{full}</div></details>
<h2>Notebooks</h2>
<ul>{notebooks}</ul>
<details><summary>Other figures</summary>{figures}</details>
<details><summary>Settings and versions</summary><pre>{settings}</pre></details>
</body></html>
"""


def write_report(study: Study, runs: list[Run], comparison: pd.DataFrame, notebooks: list[Executed]) -> Path:
    """Write ``index.html`` into the study's folder and return its path."""
    page = study.folder / "index.html"
    pictures = {picture.stem: picture for picture in sorted(study.figures.glob("*.png"))}
    first = [pictures.pop(stem) for stem in FIRST_FIGURES if stem in pictures]
    settings = {
        "study": study.config.identity() | {"methods": study.config.methods, "seeds": study.config.seeds},
        "dataset fingerprint": study.fingerprint,
        "environment": environment(),
        "runs": [str(run.folder.relative_to(study.folder)) for run in runs],
    }
    links = [(one.source.stem, os.path.relpath(one.html, page.parent)) for one in notebooks]
    items = [f'<li><a href="{html.escape(to)}">{html.escape(name)}</a></li>' for name, to in links]
    with atomic_write(page) as path:
        path.write_text(
            _PAGE.format(
                title=html.escape(f"crodino: {study.config.name}"),
                caveat=html.escape(f"{study.card.title}. {study.caveat()}"),
                first="\n".join(_figure(picture, page.parent) for picture in first),
                table=as_text(comparison).to_html(index=False, border=0),
                caption=html.escape(caption(comparison, study.caveat())),
                full=comparison.round(3).to_html(index=False, border=0),
                notebooks="".join(items),
                figures="\n".join(_figure(picture, page.parent) for picture in pictures.values()),
                settings=html.escape(json.dumps(settings, indent=1)),
            )
        )
    return page


def _figure(picture: Path, folder: Path) -> str:
    source, title = os.path.relpath(picture, folder), html.escape(picture.stem.replace("_", " "))
    return f'<p><a href="{source}"><img src="{source}" alt="{title}"></a></p>'
