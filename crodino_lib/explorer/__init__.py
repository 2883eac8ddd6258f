"""The explorer of latent spaces: brush a cloud of points and see the regions behind it.

``payload`` gathers what it draws, ``page`` writes it as one offline HTML page, ``widget`` shows it in a notebook; both
draw with ``explorer.js``.
"""

from crodino_lib.explorer.page import write_page
from crodino_lib.explorer.payload import Cloud, ExploredRun, payload

__all__ = ["Cloud", "ExploredRun", "payload", "write_page"]
