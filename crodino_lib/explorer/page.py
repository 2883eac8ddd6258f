"""The explorer as one HTML file that needs no server and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path

from crodino_lib.io import atomic_write

HERE = Path(__file__).parent
SCRIPT, STYLE = HERE / "explorer.js", HERE / "explorer.css"
START = """
mount(document.getElementById("explorer"), JSON.parse(document.getElementById("data").textContent));
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body class="crodino-page">
<main id="explorer"></main>
<script type="application/json" id="data">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def write_page(data: dict, path: Path) -> Path:
    """Write the explorer of ``data`` as one file that opens from disk, without network, in any browser of our day.

    Its policy forbids every request and every script and style but its own.

    Args:
        data: from ``payload``.
        path: of the page; replaced where it exists.

    Returns:
        ``path``.
    """
    script, style = SCRIPT.read_text() + START, STYLE.read_text()
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    )
    text = PAGE.format(
        policy=policy,
        title=html.escape(data["title"]),
        style=style,
        script=script,
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),  # or a name could end the script element
    )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def _digest(text: str) -> str:
    """How a policy names the one inline text that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
