"""The nodes of the cluster that a command is going to use, asked before it joins."""

from __future__ import annotations

import sys
from typing import Any

from cl_core.errors import BadRequest, named_line
from search.backends.allocation import NodeResources
from search.backends.ray_address import bootstrap_address, check_answers, cluster_address, private

ANSWER = 10.0  # seconds for the list of nodes


def cluster_nodes() -> list[NodeResources] | None:
    """Return the living nodes of the Ray that this process has joined, or of RAY_ADDRESS; None without one.

    Raises BadRequest within seconds if the cluster does not answer.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return joined_nodes()
    named = cluster_address()
    if named is None:
        return None
    check_answers(named)
    try:
        found = private().listed_nodes(bootstrap_address(named), ANSWER)
    except Exception as error:
        raise BadRequest(
            f"the Ray cluster at {named} must list its nodes, and does not ({named_line(error)}): is it of "
            "the same version of Ray?"
        ) from error
    return [NodeResources(*node) for node in found]


def joined_nodes() -> list[NodeResources]:
    """Return the living nodes of the Ray that this process has joined."""
    nodes: list[dict[str, Any]] = sys.modules["ray"].nodes()
    return [
        NodeResources(node["NodeID"], node["Resources"], node.get("Labels") or {})
        for node in nodes
        if node["Alive"]
    ]
