"""A table as LaTeX: booktabs, the best value of a column bold, the second underlined, and intervals."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Mapping, Sequence

from analysis.report.html_table import Grid, GridCell
from cl_core.metrics import OBJECTIVES

_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{character: f"{{{character}}}" for character in "[]*"},  # after a row's end they are arguments
    "\n": " ",
    "\r": " ",
    "−": "$-$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "∫": r"$\int$",
    "Σ": r"$\Sigma$",
    "Φ": r"$\Phi$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
    "²": r"\textsuperscript{2}",
    "ⁿ": r"\textsuperscript{n}",
    "–": "--",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "’": "'",
}
_FOREIGN = re.compile(r"[^\x20-\x7e\u00a1-\u017f]")
_DIRECTIONS = {
    **{name.replace("_", " "): direction for name, (direction, _) in OBJECTIVES.items() if name != "seconds"},
    "average incremental": "max",
    "without first task": "max",
    "accuracy": "max",
    "last": "max",
    "backward transfer": "max",
    "learning accuracy": "max",
    "intransigence": "min",
    "P(task)": "max",
    "P(class | task)": "max",
}
"""The columns of which one direction is better: name -> max or min. Time spent is that of a whole search."""

_COLUMNS = {"num": "r", "text": "l", "text long": "p{38mm}"}
_PARTS = {"class", "factor"}  # columns of tables whose rows are parts of a label
_FEWEST = 3  # rows with a value for marks
_NARROW = 7  # columns in the usual size, in one column of the page
_COLUMN, _LETTER, _GAP = 229, 4.7, 8  # points: a column of the page, a letter, the room between columns
_LONG = 23  # letters of a line in a column of long texts


def escaped(text: object) -> str:
    """Return text that LaTeX sets as it is written; characters that it cannot type become question marks."""
    out = "".join(_SPECIAL.get(character, character) for character in str(text))
    return _FOREIGN.sub("?", out)


def _readable(text: str) -> bool:
    """Tell whether LaTeX can type most of a text; of one in another script it can type nothing."""
    return 2 * escaped(text).count("?") <= len(text)


def table(grid: Grid, caption: str, label: str, references: Collection[str] = ()) -> str:
    """Return a table environment, for the packages booktabs and graphicx.

    A table too wide for one column of the page goes over both; one too wide for these is made smaller.
    `references` are labels whose values get no mark.
    """
    marks = _marks(grid, references)
    spec = "".join(_COLUMNS[cell.kind] for cell in grid.leaves)
    size = "\\small" if grid.columns <= _NARROW else "\\scriptsize"
    wide = grid.columns > _NARROW or _letters(grid) * _LETTER + grid.columns * _GAP > _COLUMN
    body = []
    for number, row in enumerate(grid.rows):
        if row.heading:
            said = escaped(" ".join(filter(_readable, row.heading)))
            room = "p{\\dimexpr\\linewidth-2\\tabcolsep\\relax}"
            body.append(f"\\multicolumn{{{grid.columns}}}{{{room}}}{{{said}}} \\\\")
        elif row.group:
            body.append("\\addlinespace")
        body.append(" & ".join(_cell(c, marks.get((number, i))) for i, c in enumerate(row.cells)) + " \\\\")
    environment = "table*" if wide else "table"
    lines = [
        f"\\begin{{{environment}}}",
        "\\centering",
        size,
        "\\setlength{\\tabcolsep}{4pt}",
        f"\\caption{{{escaped(caption)}}}",
        f"\\label{{tab:{label}}}",
        "\\sbox{0}{%",
        f"\\begin{{tabular}}{{{spec}}}",
        "\\toprule",
        *_head(grid),
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}}%",
        "\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\usebox{0}}\\else\\usebox{0}\\fi",
        f"\\end{{{environment}}}",
    ]
    return "\n".join(filter(None, lines)) + "\n"


def _letters(grid: Grid) -> int:
    """The letters of the longest line of a table, an estimate: the longest text of every column."""
    total = 0
    for i, head in enumerate(grid.leaves):
        longest = max(_longest(grid, i), len(head.text))
        total += min(longest, _LONG) if head.kind == "text long" else longest
    return total


def _longest(grid: Grid, i: int) -> int:
    """The letters of the longest value of a column."""
    cells = [row.cells[i] for row in grid.rows]
    return max((len(f"{c.text} ± {c.half}" if c.half else c.text) for c in cells), default=0)


def figure(path: str, caption: str, label: str, wide: bool) -> str:
    """Return a figure environment of one PDF; needs the package graphicx. `wide` spans two columns."""
    environment = "figure*" if wide else "figure"
    return "\n".join(
        [
            f"\\begin{{{environment}}}",
            "\\centering",
            f"\\includegraphics[width=\\linewidth]{{{path}}}",
            f"\\caption{{{escaped(caption)}}}",
            f"\\label{{fig:{label}}}",
            f"\\end{{{environment}}}",
            "",
        ]
    )


def document(parts: Sequence[str]) -> str:
    """Return a document that inputs files, to see all of them at once."""
    inputs = [f"\\input{{{part}}}\n\\clearpage" for part in parts]
    head = ["\\documentclass[twocolumn]{article}", "\\usepackage[T1]{fontenc}"]
    head += [f"\\usepackage{{{name}}}" for name in ("textcomp", "booktabs", "graphicx")]
    return "\n".join([*head, "\\begin{document}", *inputs, "\\end{document}", ""])


def _head(grid: Grid) -> list[str]:
    """The header rows; a group of columns stands over a thin rule."""
    if not grid.spread:
        return [" & ".join(_title(grid, i) for i in range(grid.columns)) + " \\\\"]
    upper, rules, at = [], [], 1
    for cell in grid.head[0]:
        if cell.kind == "over":
            upper.append(f"\\multicolumn{{{cell.columns}}}{{c}}{{{escaped(cell.text)}}}")
            rules.append(f"\\cmidrule(lr){{{at}-{at + cell.columns - 1}}}")
        else:
            upper.append("")
        at += cell.columns
    lower = [_title(grid, i) for i in range(grid.columns)]
    return [" & ".join(upper) + " \\\\", "".join(rules), " & ".join(lower) + " \\\\"]


def _title(grid: Grid, i: int) -> str:
    """The title of a column. In a table of many columns it takes no more room than the values below it."""
    head = grid.leaves[i]
    if grid.columns <= _NARROW or not head.text.strip():
        return escaped(head.text)
    room = max(_longest(grid, i), *map(len, head.text.split()))
    lines = textwrap.wrap(head.text, room, break_on_hyphens=False)
    if len(lines) < 2:
        return escaped(head.text)
    stacked = " \\\\ ".join(map(escaped, lines))
    return f"\\shortstack[{'r' if head.kind == 'num' else 'l'}]{{{stacked}}}"


def _cell(cell: GridCell, mark: str | None) -> str:
    text = escaped(cell.text)
    text = f"\\{mark}{{{text}}}" if mark else text
    return f"{text} {{\\scriptsize $\\pm$ {escaped(cell.half)}}}" if cell.half else text


def _marks(grid: Grid, references: Collection[str]) -> Mapping[tuple[int, int], str]:
    """(row, column) -> textbf of the best value of a column, and underline of the second.

    Rows are compared within a scenario, where the table has that column. Rounded values that are equal are
    marked alike. Rows that are the classes of a label, or the levels of a factor, are no rivals.
    """
    out: dict[tuple[int, int], str] = {}
    leaves = [cell.text for cell in grid.leaves]
    if not _PARTS.isdisjoint(leaves):
        return out
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(grid.rows):
        said = dict(zip(leaves, (cell.text for cell in row.cells), strict=True))
        if said.get("label") not in references:
            groups.setdefault(said.get("scenario", ""), []).append(number)
    for mine in groups.values():
        for column, name in enumerate(leaves):
            direction = _DIRECTIONS.get(name)
            cells = {number: grid.rows[number].cells[column] for number in mine}
            known = {number: cell.value for number, cell in cells.items() if cell.value is not None}
            if direction is None or len(known) < _FEWEST:
                continue
            order = sorted(known, key=known.__getitem__, reverse=direction == "max")
            texts = list(dict.fromkeys(cells[number].text for number in order))[:2]
            for number in order:
                text = cells[number].text
                if text in texts:
                    out[number, column] = "textbf" if text == texts[0] else "underline"
    return out
