"""Output on terminals that lack characters: no command may fail because of one."""

from __future__ import annotations

import codecs
import io
import sys

_PLAIN = {
    "–": "-",
    "—": "-",
    "−": "-",
    "±": "+-",
    "…": "...",
    "·": "*",
    "×": "x",
    "━": "#",
    "─": "-",
    "’": "'",
    "“": '"',
    "”": '"',
}
_ASCII = "cl_search_ascii"


def plain_output() -> None:
    """Let stdout and stderr replace characters that their encoding lacks: - for an en dash."""
    codecs.register_error("plain", _plain)
    codecs.register(_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The parser takes ASCII for a mistake and writes UTF-8 instead, so it must not see the name.
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(errors="plain", encoding=_ASCII if ascii_only else None)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    text = "".join(_PLAIN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in lacking)
    return text, error.end


def _ascii(name: str) -> codecs.CodecInfo | None:
    """Give ASCII under another name."""
    if name != _ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode,
        known.decode,
        known.streamreader,
        known.streamwriter,
        known.incrementalencoder,
        known.incrementaldecoder,
        name=_ASCII,
    )
