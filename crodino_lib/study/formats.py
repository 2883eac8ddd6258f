"""Write a table of text as Markdown, HTML and LaTeX."""

import re

import pandas as pd
from pandas.io.formats.style import Styler

MARKS = " Bold, italic: the best and second best mIoU of the same sensors, and what cannot be told from them."
FITTED = (  # graphicx scales a table that is wider than the page down to it
    "\\scriptsize\\centering\\setlength{\\tabcolsep}{3pt}\n"
    "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n\\begin{tabular}"
)


def to_markdown(table: pd.DataFrame) -> str:
    """Return a table of text as Markdown."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def in_formats(name: str, text: pd.DataFrame, caption: str, places: pd.Series | None = None) -> dict[str, str]:
    """Return file name -> a table of text as Markdown, HTML and LaTeX (packages booktabs, graphicx).

    Args:
        name: file name without suffix.
        text: the table.
        caption: stands below the Markdown, above the others.
        places: (rows,) 1 for rows whose mIoU is printed bold, 2 for italic; not in Markdown.
    """
    marks = {1: "font-weight: bold", 2: "font-style: italic"}
    looks = pd.DataFrame("", text.index, text.columns)
    if places is not None:
        looks["mIoU"] = places.map(marks).fillna("")
    marked = caption + (MARKS if places is not None else "")

    def style(escape: str) -> Styler:
        plain = text.set_axis([_latex_head(text, name) for name in text], axis=1) if escape == "latex" else text
        shown = Styler(plain, uuid=name, cell_ids=False, caption=_latex(marked) if escape == "latex" else marked)
        return (
            shown.format(escape=escape)
            .hide(axis="index")
            .apply(lambda _: looks.set_axis(plain.columns, axis=1), axis=None)
        )

    latex = style("latex").to_latex(hrules=True, convert_css=True, label=f"tab:{name}", environment="table*")
    return {
        f"{name}.md": f"{to_markdown(text)}\n{caption}\n",
        f"{name}.html": style("html").to_html(doctype_html=True),
        f"{name}.tex": latex.replace("\\begin{tabular}", FITTED).replace("\\end{tabular}", "\\end{tabular}}"),
    }


def _latex_head(text: pd.DataFrame, column: str) -> str:
    """Return the head of a column, on its side where it would make the column wider than its cells do."""
    longest = text[column].astype(str).str.len().max()
    return f"\\rotatebox{{90}}{{{_latex(column)}}}" if len(column) > max(7, 1.5 * longest) else _latex(column)


def _latex(text: str) -> str:
    """Return text as LaTeX prints it."""
    return re.sub(r"([%&_#{}$])", r"\\\1", text)
