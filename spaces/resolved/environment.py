"""The environment of a study: versions, hardware, time."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from typing import Any


@cache
def versions() -> dict[str, str]:
    """Return the versions that a study's numbers depend on."""
    out = {"python": platform.python_version()}
    for name in ("torch", "ray", "optuna", "cl-search"):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            out[name] = "not installed"
    return out


def hardware() -> dict[str, Any]:
    """Return the CPUs and GPUs of this machine."""
    import torch

    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    return {"cpus": os.cpu_count() or 1, "gpus": gpus}


def commit() -> str:
    """Return the git commit of the current folder, with a word where its files differ; empty without one."""
    try:
        head, changed = (
            subprocess.run(
                ["git", *words], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head} (changed files)" if changed else head


def now() -> str:
    """Return the time in UTC in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
