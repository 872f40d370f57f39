"""Ways to damage bytes, values to put where others belong, and the rule that every answer keeps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cl_core.errors import ClSearchError
from tests.search.terminal import call

# 200 cases in all; CL_SEARCH_FUZZ=10 tries 2,000. Six tests share them.
CASES = 33 * int(os.environ.get("CL_SEARCH_FUZZ", "1"))
fuzzed = settings(
    max_examples=CASES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TEXTS = [
    "",
    " ",
    "lwf",
    "digits",
    "none",
    "auto",
    "../x",
    "~",
    "a:b",
    "é",
    "\0",
    "x" * 300,
    "1e999",
    "B0-5tasks",
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 10**6, 10**18, 10**400, 0.5, -0.5, 1e308, float("inf"), float("nan")]),
    st.sampled_from(TEXTS),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["float", "choice", "int", "log", "name", "lr", "method", "x"]), inner, max_size=2
        ),
        st.builds(lambda value: {"choice": [value, value]}, inner),
    ),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A content with flipped bits, or with a part cut out, doubled or overwritten."""
    out = bytearray(content)
    how = draw(st.sampled_from(["flip", "flip", "flip", "cut", "head", "double", "fill", "random"]))
    at = draw(st.integers(0, max(0, len(out) - 1)))
    if how == "flip" and out:
        for _ in range(draw(st.sampled_from([1, 1, 4]))):
            out[draw(st.integers(0, len(out) - 1))] ^= 1 << draw(st.integers(0, 7))
    elif how == "cut":
        del out[at:]
    elif how == "head":
        del out[:at]
    elif how == "double":
        out[at:at] = out[at : at + draw(st.integers(1, 200))]
    elif how == "fill":
        end = min(len(out), at + draw(st.integers(1, 64)))
        out[at:end] = bytes(end - at)
    else:
        out = bytearray(draw(st.binary(max_size=60)))
    return bytes(out)


def answers(*words: object, codes: tuple[int, ...] = (0, 1, 2)) -> str:
    """Give a command; see that it ends with a code of `codes`, and in one line unless with 0. Return it."""
    result = call(*words)
    error = result.exception
    assert error is None or isinstance(error, SystemExit), repr(error)
    assert result.exit_code in codes, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    if result.exit_code == 2:
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: "), result.stderr
        assert len(lines[0]) > 20, result.stderr
    assert "Traceback" not in result.output
    return result.output


def refused_in_one_line(work: Any) -> None:
    """Call `work`; see that it does its work or raises an error of ours, in one line."""
    said = "nothing"
    try:
        work()
    except ClSearchError as error:
        said = str(error)
    assert said
    assert "\n" not in said, said


def put(path: Path, content: bytes) -> None:
    """Write a file anew; its time of change differs from that of all before."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
