"""`doctor`: versions, devices, storage and data of this installation."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sqlite3
from pathlib import Path
from typing import Any

import torch

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.loading import load
from search.backends.allocation import machine_cpus
from search.storage.database import DRIVERS, EXTRA
from search.storage.file_systems import network_type, own_place
from search.storage.trouble import storage_trouble

PACKAGES = (
    "cl-search",
    "torch",
    "torchvision",
    "ray",
    "optuna",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "plotly",
    "scikit-learn",
    "safetensors",
)
LOCAL = ("digits", "cifar10", "cifar100", "tiny-imagenet", "imagenet100")  # data sets that need no settings


def examine(root: str | None = None, out: Path = Path("runs")) -> dict[str, Any]:
    """Return all findings as plain values. `root` is the folder of the data instead of ~/data."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    place = out.absolute()
    while not place.is_dir():
        place = place.parent
    trouble = storage_trouble(place)
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "devices": {
            "cpus": machine_cpus(),
            "torch threads": torch.get_num_threads(),
            "instruction set": torch.backends.cpu.get_cpu_capability(),
            "gpus": gpus,
        },
        "storage": {
            "place": str(place),
            "writable": trouble is None,
            "trouble": trouble,
            "network": network_type(place),
        },
        "storage.optuna": _optuna(place),
        "ray address": os.environ.get("RAY_ADDRESS"),
        "data": {name: _found(name, root) for name in LOCAL},
    }


def _optuna(place: Path) -> dict[str, str]:
    """Return which storages of Optuna's studies a run folder in `place` could use."""
    kind, here = network_type(place), "usable, in the run folder"
    local = own_place() if kind else None
    if kind and local is not None:
        here = f"usable, in {local} with a copy in the run folder ({kind})"
    on_network = f"not usable: {place} lies on {kind} and there is no local disk: set XDG_STATE_HOME"
    known = [f"{name} {version}" for name in DRIVERS if (version := _driver(name))]
    return {
        "journal": here if not kind or local else f"usable, in the run folder on {kind}",
        "sqlite": f"{here}, SQLite {sqlite3.sqlite_version}" if not kind or local else on_network,
        "postgresql": f"usable with {known[0]}" if known else f"not usable: {EXTRA}",
    }


def _driver(name: str) -> str | None:
    """Return the version of a PostgreSQL driver; None where it cannot be loaded."""
    try:
        return str(importlib.import_module(name).__version__).split()[0]
    except ImportError:
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _found(name: str, root: str | None) -> dict[str, Any]:
    """Tell whether a data set is found and readable; a few images per class are decoded."""
    try:
        data = load(DataSpec(name, root=root if name != "digits" else None, per_class=2))
    except BadRequest as error:
        return {"found": False, "message": str(error)}
    return {"found": True, "message": f"{data.num_classes} classes of {'x'.join(map(str, data.shape))}"}
