"""A figure inside a page that cannot be left: no button, link or connection leads out of it.

The plotting library has buttons and links of its own that open a public service, some with the data, and new
versions add more. So the buttons are named one by one, links in texts are shown as text, and the page's
policy forbids what a policy can: connections, forms, frames and another base. Windows it cannot, so
`SEALED` does.
"""

from __future__ import annotations

import json
import re

import plotly.graph_objects as go
import plotly.io

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'none'; form-action 'none'; frame-src 'none'; object-src 'none'; base-uri 'none'"
)
"""The page's Content-Security-Policy: it holds its scripts and pictures, and asks for nothing."""

SEALED = "<script>window.open = () => null;</script>"
"""Before any other script: nothing opens a window."""

BUTTONS = (("toImage",), ("zoom2d", "pan2d"), ("zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"))
"""Buttons of a figure's bar: saving it as a picture, and moving about in it."""

CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": True,
    "modeBarButtons": [list(group) for group in BUTTONS],
}

# In JSON. The library takes a line break behind the name for a space.
_LINK = re.compile(r"(?:<|\\u003[cC])(?=\s*/?\s*[aA](?:[\s>/]|\\[nr]|\\u003[eE]))")


def embedded(figure: go.Figure, name: str) -> str:
    """A figure as a `div` of the id `name`, without the library, which the page holds once."""
    # Not a figure again: its validation takes ten times as long.
    sealed = json.loads(_LINK.sub("&lt;", figure.to_json()))
    page = plotly.io.to_html(
        sealed, include_plotlyjs=False, full_html=False, div_id=name, config=CONFIG, validate=False
    )
    return str(page)
