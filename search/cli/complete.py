"""Names that the shell completes: presets, methods, kinds of things, folders of runs."""

from __future__ import annotations

from pathlib import Path


def studies(incomplete: str) -> list[str]:
    """Presets and study files."""
    from spaces import presets

    return _of([*presets.names(), *map(str, Path().glob("*.yaml"))], incomplete)


def described(incomplete: str) -> list[str]:
    """What `describe` takes."""
    from spaces import presets

    return _of([*methods(""), *presets.names(), "study"], incomplete)


def methods(incomplete: str) -> list[str]:
    """Methods by name; a file each."""
    import cl_core

    files = (Path(cl_core.__file__).parent / "methods").glob("[!_]*.py")
    return _of([path.stem for path in files], incomplete)


def kinds(incomplete: str) -> list[str]:
    """What `list` takes."""
    from search.commands.describe import kinds as every

    return _of(every(), incomplete)


def runs(incomplete: str) -> list[str]:
    """Folders of runs, those below the folder named so far and below runs/."""
    above = Path(incomplete or ".")
    places = [above if incomplete.endswith("/") else above.parent, Path("runs")]
    found = {str(path.parent) for place in places for path in place.glob("*/study.yaml")}
    return _of(found, incomplete)


def _of(names: list[str] | set[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
