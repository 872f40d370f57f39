"""Shipping to workers on other nodes: files that they need besides cl-search, and their environment."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.backends.ray_environment import worker_variables
from search.storage.scratch import scratch


@contextlib.contextmanager
def runtime_environment(files: Mapping[str, Path], threads: int) -> Iterator[dict[str, Any]]:
    """Provide Ray's runtime environment of the workers of a cluster.

    `files` are copied below a working directory, in which the workers start and which is on their path, by
    their place there. The variables of the workers do not depend on how their cluster was started.
    """
    out: dict[str, Any] = {"env_vars": worker_variables(threads)}
    if not files:
        yield out
        return
    with scratch() as place:
        for name, path in files.items():
            target = place / "shipped" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        yield out | {"working_dir": str(place / "shipped")}
