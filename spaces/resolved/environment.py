"""What a study met when it was begun: versions, hardware, the time."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from typing import Any


def versions() -> dict[str, str]:
    """Versions of what a study's numbers depend on."""
    out = {"python": platform.python_version()}
    for name in ("torch", "ray", "optuna", "cl-search"):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            out[name] = "not installed"
    return out


def hardware() -> dict[str, Any]:
    """What this machine has."""
    import torch

    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    return {"cpus": os.cpu_count() or 1, "gpus": gpus}


def now() -> str:
    """The time in UTC, as ISO 8601 writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
