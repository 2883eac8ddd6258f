"""Explore latent spaces by hand: select points and see the regions behind them, as a page or in a notebook.

Both blocks of a model are drawn side by side from one Bokeh data source: what is selected in one is selected in both.
"""

from crodino_lib.explorer.contents import Contents, collect
from crodino_lib.explorer.page import Explorer, draw, explore, write_page

__all__ = ["Contents", "Explorer", "collect", "draw", "explore", "write_page"]
