"""Turn an executed notebook into a page that needs no network: pictures, formulas and styles are inside it."""

import html
import os
import re
from pathlib import Path
from typing import Any

from crodino_lib.io import atomic_write, read_json

TEMPLATE = Path(__file__).with_name("page.html.j2")
FOLDED = {  # tag of a cell whose code a page shows after a click -> what it says
    "parameters": "Parameters",
    "injected-parameters": "Parameters of this study",
    "set-up": "Set-up",
    "sentences": "The code of these sentences",
}
FOLDING = """
{%- extends 'basic/index.html.j2' -%}
{%- block input_group -%}
{%- set names = cell.metadata.get('tags', []) | map('folded') | select | list -%}
{%- if names -%}<details><summary>{{ names[0] }}</summary>{{ super() }}</details>{%- else -%}{{ super() }}{%- endif -%}
{%- endblock -%}
"""
HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>', re.DOTALL)
LINK_TO_NOTEBOOK = re.compile(r'(href="[^":]+)\.ipynb(["#])')


def notebook_body(notebook: Path) -> str:
    """Return an executed notebook as HTML without a page around it; formulas are MathML, which browsers draw."""
    from jinja2 import pass_context  # with nbconvert a second of imports that no training needs
    from latex2mathml.converter import convert
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return convert(html.unescape(body), display="block")

        def inline_math(self, body: str) -> str:
            return convert(html.unescape(body))

        def block_html(self, text: str) -> str:
            return super().block_html(text) if "<img" in text else text  # the parser of pictures closes open tags

    class Exporter(HTMLExporter):
        @pass_context
        def markdown2html(self, context: Any, source: str) -> str:
            attached = context.get("cell", {}).get("attachments", {})
            renderer = Renderer(escape=False, attachments=attached, embed_images=True, anchor_link_text="")
            return MarkdownWithMath(renderer=renderer).render(source)

    exporter = Exporter(raw_template=FOLDING, embed_images=True, filters={"folded": FOLDED.get})
    body, _ = exporter.from_filename(str(notebook))
    return LINK_TO_NOTEBOOK.sub(r"\1.html\2", body)


def notebook_title(notebook: Path) -> str:
    """Return the first line of a notebook, its title."""
    return "".join(read_json(notebook)["cells"][0]["source"]).splitlines()[0].lstrip("# ")


def notebook_links(source: Path, folder: Path) -> dict[str, Path]:
    """Return the links of an executed notebook's page in ``folder``: the report, the notebooks before and after."""
    series = sorted(source.parent.glob("[0-9][0-9]_*.ipynb"))
    place, links = series.index(source), {"Report": folder.parent / "index.html"}
    for arrow, other in (("← {}", place - 1), ("{} →", place + 1)):
        if 0 <= other < len(series):
            short = notebook_title(series[other]).partition(":")[0]
            links[arrow.format(short)] = folder / f"{series[other].stem}.html"
    return links


def write_page(path: Path, title: str, body: str, links: dict[str, Path], contents: bool = True) -> Path:
    """Write a page around a body of HTML, atomically, and return its path.

    Args:
        path: where the page goes.
        title: its title; escaped, as are the names of links.
        body: HTML, trusted as it is.
        links: name -> page, in the order in which they stand above and below the body.
        contents: list the headings of the second level beside the body.
    """
    from jinja2 import Template
    from pygments.formatters import HtmlFormatter

    headings = [(place, re.sub(r"<[^>]+>", "", text)) for place, text in HEADING.findall(body)] if contents else []
    page = Template(TEMPLATE.read_text(), autoescape=True).render(
        title=title,
        body=body,
        headings=headings,
        links={name: os.path.relpath(target, path.parent) for name, target in links.items()},
        code_style=HtmlFormatter(style="friendly").get_style_defs(".highlight"),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page)
    return path
