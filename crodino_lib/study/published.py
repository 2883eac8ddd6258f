"""Put published numbers beside ours, with their source; nothing is ranked by them."""

import tomllib
from pathlib import Path

import pandas as pd

PUBLISHED = pd.concat(
    pd.DataFrame(rows).assign(data=data)
    for data, rows in tomllib.loads(Path(__file__).with_name("published.toml").read_text()).items()
)


def published_of(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return what was published of the rows of a comparison: its index, with the columns of ``published.toml``.

    A number belongs to a method without variants or settings, on the split test of the same dataset in any classes.
    """
    known = set(PUBLISHED.data)
    data = comparison["dataset"].map(lambda name: next((one for one in known if name.startswith(one)), ""))
    keys = pd.DataFrame({"data": data, "method": comparison["method"], "sensors": comparison["sensors at test"]})
    found = keys.merge(PUBLISHED, how="left", on=list(keys)).set_axis(comparison.index)
    return found.where(comparison["split"] == "test")


def published_text(comparison: pd.DataFrame) -> pd.Series | None:
    """Return the published mIoU of every row, with that of the paper's baseline; None where there is none."""
    found = published_of(comparison)
    if found.miou.isna().all():
        return None
    text = found.miou.map("{:.1f}".format) + found.baseline.map(lambda miou: "" if pd.isna(miou) else f" ({miou:.1f})")
    return text.where(found.miou.notna(), "-")


def published_caption(comparison: pd.DataFrame) -> str:
    """Return where the published numbers are from, and that they are not comparable with ours; empty for none."""
    found = published_of(comparison).dropna(subset="miou")
    if found.empty:
        return ""
    methods = found.groupby("source", sort=False).method.unique()
    sources = "; ".join(f"{source} ({', '.join(names)})" for source, names in methods.items())
    return (
        " Published (in brackets the paper's baseline): other networks, image sizes, classes and copies of the data, "
        f"so neither comparable with ours nor ranked; from {sources}."
    )
