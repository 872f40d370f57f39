"""The marks of a label, the same in every figure of every report.

The colour is that of its method, the symbol that of its paradigm, the dash that of its recipe (labels that
end in -paper). Two methods of one paradigm, and any two of the survey's ten, differ in colour also for
readers with protanopia, deuteranopia and tritanopia: tests/analysis/report/test_identity.py computes it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from analysis.lake.results import Results
from analysis.survey.roles import FURTHER, PARADIGMS

PALETTE = {
    "blue": "#325adc",
    "orange": "#dc7814",
    "red": "#c81446",
    "sand": "#b48c50",
    "teal": "#00a082",
    "purple": "#8c46b4",
    "magenta": "#dc64c8",
    "slate": "#786496",
    "green": "#287850",
    "violet": "#9682fa",
    "brown": "#a0500a",
    "pink": "#fa4678",
}
"""Twelve colours, each with a contrast of 3 or more to white and to the dark page."""

METHOD_COLOURS = {
    "lwf": "blue",
    "lwm": "orange",
    "distill": "green",
    "icarl": "red",
    "eeil": "sand",
    "bic": "teal",
    "lucir": "purple",
    "ss_il": "magenta",
    "gcr": "brown",
    "mnemonics": "blue",
    "il2a": "slate",
    "pass": "green",
    "praka": "violet",
    "gfr": "orange",
    "abd": "sand",
    "r_dfcil": "purple",
    "looking_back": "teal",
    "mergan": "brown",
    "ocfma": "magenta",
    "foster": "blue",
    "rps_net": "orange",
    "dytox": "red",
    "replay": "pink",
}
REFERENCE_COLOURS = {"finetune": "#8d939b", "joint": "#20262e"}  # neutral: methods are measured against them

METHOD_PARADIGMS = {
    **{method: name for name, methods in (*PARADIGMS.items(), *FURTHER.items()) for method in methods},
    "distill": "regularisation",
    "finetune": "baseline",
    "joint": "baseline",
    "replay": "baseline",
}
PARADIGM_SYMBOLS = {
    "regularisation": "circle",
    "data replay": "square",
    "feature replay": "diamond",
    "generated data": "triangle-up",
    "architecture": "hexagon",
    "baseline": "triangle-down",
    "other": "star",
}
RECIPE_DASHES = {"paper": "dash"}  # by the ending of the label; solid for any other
SHADES = (0.0, 0.42, -0.38, 0.22)  # towards white, or towards black, of further labels of a method


@dataclass(frozen=True)
class Identity:
    """The marks of one label."""

    colour: str
    symbol: str
    dash: str


def identities(results: Results) -> dict[str, Identity]:
    """The marks of every label of a study. Further labels of one method and recipe are lighter or darker."""
    method = dict(zip(results.runs["label"], results.runs["method"], strict=True))
    out: dict[str, Identity] = {}
    taken: dict[tuple[str, str], int] = {}
    for label in results.labels:
        name = str(method.get(label))
        dash = RECIPE_DASHES.get(label.rpartition("-")[2], "solid")
        before = taken.get((name, dash), 0)
        taken[name, dash] = before + 1
        colour = shade(method_colour(name), SHADES[before % len(SHADES)])
        symbol = PARADIGM_SYMBOLS[METHOD_PARADIGMS.get(name, "other")]
        out[label] = Identity(colour, symbol, dash)
    return out


def colours(results: Results) -> dict[str, str]:
    """A colour for every label of a study: see `identities`."""
    return {label: known.colour for label, known in identities(results).items()}


def method_colour(method: str) -> str:
    """The colour of a method; of one that is not ours, a colour that depends on its name alone."""
    if method in REFERENCE_COLOURS:
        return REFERENCE_COLOURS[method]
    names = list(PALETTE)
    return PALETTE[METHOD_COLOURS.get(method) or names[zlib.crc32(method.encode()) % len(names)]]


def shade(colour: str, amount: float) -> str:
    """Move a colour `#rrggbb` towards white (amount > 0) or black (< 0); 1 and -1 reach them."""
    end = 255 if amount > 0 else 0
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (end - part) * abs(amount)):02x}" for part in parts)


def about(label: str = "", scenario: str = "", classifier: str = "") -> dict[str, str]:
    """The `meta` of a trace, by which the filters of the page find it; what is empty is not filtered by."""
    known = {"label": label, "scenario": scenario, "classifier": classifier}
    return {name: value for name, value in known.items() if value}
