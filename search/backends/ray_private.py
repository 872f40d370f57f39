"""Ray's private modules: where Ray runs on this machine, and the nodes of a cluster.

Joining a cluster takes seconds, so it is asked without. This module loads Ray, so it is imported late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import _raylet
from ray._private import services

_CLIENT: Any = vars(_raylet)["GcsClient"]  # it is compiled, without types
_ALIVE = 0


def running_address() -> str:
    """Return the address of the Ray that was started on this machine. Raises ConnectionError without one."""
    return str(services.canonicalize_bootstrap_address_or_die("auto"))


def listed_nodes(address: str, timeout: float) -> list[tuple[str, Mapping[str, float], Mapping[str, str]]]:
    """Return id, resources and labels of each living node of a cluster. Raises an error of Ray."""
    found = _CLIENT(address=address).get_all_node_info(timeout=timeout)
    return [
        (name.hex(), dict(node.resources_total), dict(node.labels))
        for name, node in found.items()
        if node.state == _ALIVE
    ]


def local_nodes() -> set[str]:
    """Return the ids of the nodes that this machine is, in any cluster."""
    return set(services.find_node_ids())
