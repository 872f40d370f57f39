"""Presets: the studies included in cl-search, one YAML file each."""

from __future__ import annotations

from importlib import resources

from cl_core.errors import unknown


def names() -> list[str]:
    """Return the names of the presets, sorted."""
    files = (entry.name for entry in resources.files("spaces.presets").iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def text(name: str) -> str:
    """Return the YAML text of a preset. Raises BadRequest, with the nearest name, for an unknown one."""
    if name not in names():
        raise unknown("preset", name, names())
    return resources.files("spaces.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def summary(name: str) -> str:
    """Return the first comment line of a preset."""
    first = text(name).splitlines()[0]
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""
