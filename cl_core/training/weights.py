"""Weights to start from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from cl_core.errors import BadRequest
from cl_core.nets.network import Network


def file_digest(path: str) -> str:
    """The SHA-256 of a file. Raises BadRequest where it cannot be read."""
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise BadRequest(f"init must be a readable file: {path}: {error.strerror}") from error


def load_init(net: Network, path: str) -> None:
    """Start the backbone from weights in a safetensors file. Raises BadRequest where they do not fit."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadRequest(f"init must be a readable safetensors file: {path}: {error}") from error
    # Of a saved model, of a network, or of the backbone itself.
    stems = ("net.backbone.", "backbone.", "")
    stem = next(s for s in stems if any(name.startswith(s) for name in tensors) or not s)
    own = {n.removeprefix(stem): t for n, t in tensors.items() if n.startswith(stem)}
    try:
        net.backbone.load_state_dict(own)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise BadRequest(f"init must hold the weights of this backbone: {path}: {first}") from error
