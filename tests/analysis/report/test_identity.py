"""Colours, symbols and dashes of labels: the same in every report, and safe for the colour-blind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.lake.open import open_results
from analysis.report.identity import (
    METHOD_COLOURS,
    METHOD_PARADIGMS,
    PALETTE,
    colours,
    identities,
    method_colour,
    shade,
)
from analysis.survey.roles import TEN
from cl_core.method import METHODS
from tests.analysis.planted import Plan, write

# Machado, Oliveira and Fernandes, IEEE TVCG 2009, severity 1, on linear RGB.
SIGHT = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.180437], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
WHITE, DARK_PAGE = "#ffffff", "#14181f"


def linear(colour: str) -> np.ndarray:
    """[3]: linear RGB in [0, 1]."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(colour: str, sight: str) -> np.ndarray:
    """[3]: CIE 1976 L*a*b* of a colour as seen with a kind of sight (D65)."""
    ratio = TO_XYZ @ np.clip(np.asarray(SIGHT[sight]) @ linear(colour), 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(a: str, b: str) -> float:
    """The smallest distance of two colours over the four kinds of sight."""
    return min(float(np.linalg.norm(lab(a, sight) - lab(b, sight))) for sight in SIGHT)


def contrast(a: str, b: str) -> float:
    """The contrast of two colours by WCAG 2: 1 to 21."""
    light, dark = sorted((float(TO_XYZ[1] @ linear(one)) for one in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_distance_of_black_and_white_is_that_of_their_lightness():
    assert distance("#000000", "#ffffff") == pytest.approx(100, abs=0.1)
    assert contrast("#000000", "#ffffff") == pytest.approx(21, abs=0.01)


def test_any_two_colours_can_be_told_apart_with_every_kind_of_sight():
    near = {(a, b): distance(PALETTE[a], PALETTE[b]) for a, b in itertools.combinations(PALETTE, 2)}
    assert min(near.values()) >= 16


def test_methods_of_one_paradigm_and_the_surveys_ten_have_colours_of_their_own():
    known = METHOD_PARADIGMS
    paradigms = [[m for m in known if known[m] == name] for name in set(known.values())]
    for group in (TEN, *paradigms):
        assert len({method_colour(method) for method in group}) == len(group)


@pytest.mark.parametrize("page", [WHITE, DARK_PAGE])
def test_every_colour_stands_out_from_the_page(page):
    assert min(contrast(colour, page) for colour in PALETTE.values()) >= 3


def test_every_method_of_ours_has_its_paradigm_and_colour():
    assert set(METHODS.names()) <= set(METHOD_PARADIGMS)
    assert set(METHOD_PARADIGMS) - set(METHOD_COLOURS) == {"finetune", "joint"}


def test_a_method_keeps_its_colour_whatever_stands_beside_it(tmp_path):
    both = [
        colours(open_results(write(tmp_path / name, Plan(labels=labels, trials=1))))
        for name, labels in {"a": ("lwf", "icarl"), "b": ("icarl", "bic", "lwf")}.items()
    ]
    assert both[0]["icarl"] == both[1]["icarl"]
    assert both[0]["lwf"] == both[1]["lwf"]


def test_further_labels_of_a_method_are_lighter_or_darker_and_papers_recipes_dashed(tmp_path):
    results = open_results(write(tmp_path / "run", Plan(labels=("lwf", "icarl"), trials=1)))
    results.runs["label"] = results.runs["label"].replace({"icarl": "lwf-paper"})
    results.runs["method"] = "lwf"
    known = identities(results)
    assert (known["lwf"].dash, known["lwf-paper"].dash) == ("solid", "dash")
    assert known["lwf"].colour == known["lwf-paper"].colour
    results.runs["label"] = results.runs["label"].replace({"lwf-paper": "lwf-2"})
    del results.labels
    known = identities(results)
    assert known["lwf"].colour != known["lwf-2"].colour
    assert shade("#102030", 1) == "#ffffff"
    assert shade("#102030", -0.5) == "#081018"
