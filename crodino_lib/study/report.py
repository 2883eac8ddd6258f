"""The page a study ends with: the table, the manifolds, every executed notebook, settings and versions."""

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
<p class="warning">{says}</p>
<h2>Which method helps?</h2>
<div class="scroll">{table}</div>
<p>{caption}</p>
{figures}
<h2>Notebooks</h2>
<ul>{notebooks}</ul>
<h2>Settings and versions</h2>
<pre>{settings}</pre>
</body></html>
"""


def write_report(study: Study, runs: list[Run], comparison: pd.DataFrame, notebooks: list[Executed]) -> Path:
    """Write ``index.html`` into the study's folder and return its path."""
    page = study.folder / "index.html"
    settings = {
        "study": study.config.identity() | {"methods": study.config.methods, "seeds": list(study.config.seed_list)},
        "dataset fingerprint": study.fingerprint,
        "environment": environment(),
        "runs": [str(run.folder.relative_to(study.folder)) for run in runs],
    }
    with atomic_write(page) as path:
        path.write_text(
            _PAGE.format(
                title=html.escape(f"crodino: {study.config.name}"),
                says=html.escape(f"{study.card.title}. {study.caveat()}"),
                table=as_text(comparison).to_html(index=False, border=0),
                caption=html.escape(caption(comparison, study.caveat())),
                figures="\n".join(_figure(picture, page.parent) for picture in sorted(study.figures.glob("*.png"))),
                notebooks="".join(_link(executed, page.parent) for executed in notebooks),
                settings=html.escape(json.dumps(settings, indent=1)),
            )
        )
    return page


def _figure(picture: Path, folder: Path) -> str:
    source = os.path.relpath(picture, folder)
    title = html.escape(picture.stem.replace("_", " "))
    return f'<h2>{title}</h2><a href="{source}"><img src="{source}" alt="{title}"></a>'


def _link(executed: Executed, folder: Path) -> str:
    return f'<li><a href="{os.path.relpath(executed.html, folder)}">{html.escape(executed.source.stem)}</a></li>'
