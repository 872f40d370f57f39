"""The packages of the tools, which are optional."""

from __future__ import annotations

import importlib
from types import ModuleType

from cl_core.errors import BadRequest


def package_of(tool: str, name: str) -> ModuleType:
    """Import a module of a tool's package. Raises BadRequest where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadRequest(f"--to {tool} needs {name}: pip install 'cl-search[{tool}]'") from error
