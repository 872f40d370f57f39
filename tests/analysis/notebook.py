"""The notebook of analysis/examples: `python -m tests.analysis.notebook --write` makes it of the scripts."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "analysis" / "examples"
NOTEBOOK = EXAMPLES / "examples.ipynb"
FOLDER = 'FOLDER = "runs/quickstart"  # a run folder'


def scripts() -> list[Path]:
    """Return the scripts by name."""
    return [path for path in sorted(EXAMPLES.glob("*.py")) if path.stem != "__init__"]


def cell(kind: str, text: str, name: str) -> dict[str, Any]:
    """Return a cell without outputs."""
    found: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}, "source": text.splitlines(True)}
    return {**found, "execution_count": None, "outputs": []} if kind == "code" else found


def made() -> str:
    """Return the notebook as JSON: of each script its docstring, its code, and a call."""
    cells = [
        cell("markdown", "# Questions to a run folder\n\nMade of the scripts beside this notebook.", "title"),
        cell("code", FOLDER, "folder"),
    ]
    for path in scripts():
        source = path.read_text(encoding="utf-8")
        title, _, rest = str(ast.get_docstring(ast.parse(source))).partition("\n")
        told = "\n".join(line for line in rest.splitlines() if not line.startswith("    python -m")).strip()
        code = source.split('"""', 2)[2].partition("\n\nif __name__")[0]
        for line in ("from __future__ import annotations\n\n", "import sys\nfrom pathlib import Path\n\n"):
            code = code.replace(line, "", 1)
        call = f"{path.stem}(open_results(FOLDER)).round(3)"
        cells.append(cell("markdown", f"## {title}\n\n{told}", f"{path.stem}-text"[:64]))
        cells.append(cell("code", f"{code.strip()}\n\n\n{call}", f"{path.stem}-code"[:64]))
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    whole = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__" and "--write" in sys.argv[1:]:
    NOTEBOOK.write_text(made(), encoding="utf-8")
