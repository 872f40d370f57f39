"""Addresses of checkpoints: a digest of everything that decided the tensors, and of nothing else.

All runs with one `base_identity` on machines of one numerics share a base checkpoint. Task checkpoints are
shared by runs that have trained alike so far. A resume checkpoint belongs to one run. The address of an epoch
checkpoint is the run's name alone, so that each save replaces the last; what decided its tensors is in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_core.hparams import digest, hparams, to_dict
from cl_core.images.dataset import Data
from cl_core.method import METHODS
from cl_core.nets.network import NETS
from cl_core.training.code import own_code
from cl_core.training.configuration import Configuration
from cl_core.training.device import resolve_device
from cl_core.training.weights import file_digest


def base_identity(configuration: Configuration, data: Data) -> dict[str, Any]:
    """Return everything that decides the network of the first task, except the machine.

    With `shared_base` it is the network that all methods begin from.
    """
    if configuration.shared_base:
        return base_identity(configuration.plain(), data)
    method = METHODS[configuration.method](configuration.hp)
    recipe, _ = configuration.recipes(data, method)
    first = configuration.scenario.sizes(data.num_classes)[0]
    net = configuration.net or data.net
    return {
        "checkpoint": "base",
        "data": data.fingerprint,
        "augment": asdict(data.augment),
        "normalise": [list(data.mean), list(data.std)],
        "validation": configuration.validation,
        "classes": list(configuration.order(data.num_classes, data.class_names)[:first]),
        "width": data.num_classes,
        "net": net,
        "init": file_digest(configuration.init) if configuration.init else None,
        "base": method.base().key(),
        "own code": [own_code(METHODS.module(configuration.method)), own_code(NETS.module(net))],
        "recipe": to_dict(recipe),
        "seed": configuration.seed,
    }


def numerics_digest(configuration: Configuration) -> str:
    """Return the digest of a run's `numerics` on this machine. Raises BadRequest."""
    device, precision = resolve_device(configuration.device, configuration.precision)
    return digest(numerics(device, precision, configuration.threads))


def base_checkpoint_key(configuration: Configuration, data: Data, numerics: str) -> str:
    """Return the address of the base checkpoint on machines with these numerics (a `numerics_digest`)."""
    identity = {**base_identity(configuration, data), "sources": sources_digest(), "numerics": numerics}
    return digest(identity)


def task_checkpoint_key(configuration: Configuration, data: Data, numerics: str, task: int) -> str:
    """Return the address of the training of a later task, on machines with these numerics.

    It follows everything that has acted on the training up to this task, and nothing else.
    """
    method = METHODS[configuration.method](configuration.hp)
    values, known = method.values(), hparams(type(method.hp))
    return digest(
        {
            "checkpoint": "task",
            "task": task,
            "base": base_checkpoint_key(configuration, data, numerics),
            "shared_base": configuration.shared_base,
            "method": configuration.method,
            "hp": {n: v for n, v in values.items() if known[n].trains(task) and known[n].active(values)},
            "own code": own_code(METHODS.module(configuration.method)),
            "recipes": [to_dict(recipe) for recipe in configuration.recipes(data, method)],
            "order": configuration.order(data.num_classes, data.class_names),
            "sizes": configuration.scenario.sizes(data.num_classes),
        }
    )


def resume_checkpoint_key(
    configuration: Configuration, data: Data, numerics: str, task: int, scope: str
) -> str:
    """Return the address of a run's resume checkpoint after `task`.

    It follows everything that decided the state, and `scope`, the run's name.
    """
    method, framework = METHODS[configuration.method](configuration.hp), configuration.framework()
    adaptation = configuration.adaptation()
    return digest(
        {
            "checkpoint": "resume",
            "scope": scope,
            "task": task,
            "unsealed": configuration.unsealed,
            "base": base_checkpoint_key(configuration, data, numerics),
            "method": method.digest(),
            "own code": own_code(METHODS.module(configuration.method)),  # not part of a shared base
            "chf": None if framework is None else to_dict(framework),
            "adaptive": None if adaptation is None else asdict(adaptation),
            "recipes": [to_dict(recipe) for recipe in configuration.recipes(data, method)],
            "order": configuration.order(data.num_classes, data.class_names),
            "sizes": configuration.scenario.sizes(data.num_classes),
        }
    )


def epoch_checkpoint_key(scope: str) -> str:
    """Return the address of the epoch checkpoint of a run, or of a base checkpoint, with this name."""
    return digest({"checkpoint": "epoch", "scope": scope})


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """Return a digest of cl_core's sources, so that changed code never loads older checkpoints."""
    root = Path(__file__).parents[1]
    hasher = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        hasher.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()[:20]


def numerics(device: torch.device, precision: str, threads: int | None = None) -> dict[str, Any]:
    """Return what decides the bits of a run apart from its configuration and code.

    NumPy counts because its generators draw the Beta variables.
    """
    kind = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": device.type,
        "kind": kind,
        "threads": threads or torch.get_num_threads(),
        "precision": precision,
    }
