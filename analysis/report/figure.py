"""A figure inside a page that cannot be left: no button, link or connection leads out of it.

A figure is stored once, as JSON with rounded numbers; `page.js` draws it as one panel a subplot. Large
figures and the library are stored compressed, and the browser unpacks them: the library has 1.9 MB, not 4.8.

The plotting library has buttons and links of its own that open a public service, some with the data, and new
versions add more. So its bar of buttons is off, links in texts are shown as text, and the page's policy
forbids what a policy can: connections, forms, frames and another base. Windows it cannot, so `SEALED` does.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.offline

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'none'; form-action 'none'; frame-src 'none'; object-src 'none'; base-uri 'none'"
)
"""The page's Content-Security-Policy: it holds its scripts and pictures, and asks for nothing."""

SEALED = "<script>window.open = () => null;</script>"
"""Before any other script: nothing opens a window."""

LARGE = 10_000
"""Characters of a figure from which on it is stored compressed."""

DIGITS = 5
"""Significant digits of the numbers in figures."""

# In JSON. The library takes a line break behind the name for a space.
_LINK = re.compile(r"<(?=\s*/?\s*[aA](?:[\s>/]|\\[nr]))")


@cache
def library() -> str:
    """The plotting library, compressed with gzip and written in base64."""
    return packed(plotly.offline.get_plotlyjs())


def packed(text: str) -> str:
    """A text compressed with gzip, in base64; `page.js` unpacks it."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def embedded(figure: go.Figure) -> str:
    """A figure as JSON for a `script` element: data and layout, numbers rounded, without the template."""
    plain = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    text = json.dumps(_rounded(plain), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _LINK.sub("&lt;", text).replace("<", "\\u003c")


def _rounded(value: Any) -> Any:
    """Numbers with DIGITS significant digits; arrays that were packed as bytes are lists again."""
    if isinstance(value, float):
        short = float(f"{value:.{DIGITS}g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "bdata" in value and "dtype" in value:
        flat = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]))
        shape = [int(n) for n in str(value.get("shape", len(flat))).split(",")]
        return _rounded(_without_nan(flat.reshape(shape).tolist()))
    return {name: _rounded(one) for name, one in value.items()}


def _without_nan(value: Any) -> Any:
    """A missing number is null, as JSON has no other."""
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
