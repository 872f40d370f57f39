"""The Ray cluster of RAY_ADDRESS, or of --address, checked before any work.

`ray.init` waits silently for minutes if nobody answers, so a socket is tried first.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from types import ModuleType

from cl_core.errors import BadRequest
from search.backends.ray_environment import ray_environment
from search.storage.places import ray_elsewhere, ray_temporary

ADDRESS = "RAY_ADDRESS"
WAIT = 5.0  # seconds for a connection, and again for an answer
_FORMS = "host:port, auto, or local for a Ray of this machine alone"
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
# Ray's head speaks gRPC (HTTP/2, RFC 9113) and answers every call in its own content type, refused ones too.
# Other servers of HTTP/2, such as a proxy that takes every connection, do not.
_DATA, _HEADERS, _SETTINGS = 0, 1, 4  # kinds of frames
_STREAM_ENDS, _HEADERS_END = 1, 4  # flags
_POST, _HTTP = b"\x83", b"\x86"  # in HPACK (RFC 7541, appendix A)
_GRPC = b"application/grpc"
_NO_TOKEN = b"grpc-status\x0216"  # the text 16, two bytes: unauthenticated
_CALL = b"/ray.rpc.NodeInfoGcsService/GetClusterId"  # the first that Ray's own client makes


def cluster_address() -> str | None:
    """Return the value of RAY_ADDRESS; None if it is not set, empty or `local`: only this machine is used."""
    address = os.environ.get(ADDRESS, "").strip()
    return None if address in ("", "local") else address


def check_ray() -> list[str]:
    """Check that Ray can start here, or answers at RAY_ADDRESS; return notes on the place of its files.

    Raises BadRequest within seconds. A Ray that this process has joined is not checked.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return []
    named = cluster_address()
    if named is not None:
        check_answers(named)
        return []
    ray_temporary()
    return ray_elsewhere()


def check_answers(named: str) -> None:
    """Raise BadRequest within seconds unless a Ray answers at `named`, a value of RAY_ADDRESS."""
    address = bootstrap_address(named)
    if address.startswith("ray://"):
        raise BadRequest(
            f"{ADDRESS} must be {_FORMS}: {named!r} is an address of Ray Client, under which Tune moves the "
            "search away from this command and its run folder. Give the cluster's own address, which `ray "
            "start --head` prints (port 6379), or give the command on the cluster: ray job submit -- "
            "cl-search run ..."
        )
    match = _HOST_PORT.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise BadRequest(f"{ADDRESS} must be {_FORMS}: {named!r} is not. Correct it, or unset it.")
    said = f"{ADDRESS} must name a running Ray cluster: at {address} "
    remedy = " Start it (ray start --head), correct the address, or unset it to use this machine alone."
    try:
        connection = socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=WAIT)
    except UnicodeError:  # a name with an empty label, or one of more than 63 characters
        raise BadRequest(f"{ADDRESS} must be {_FORMS}: {named!r} is not. Correct it, or unset it.") from None
    except OSError as error:
        raise BadRequest(f"{said}nobody answers ({error.strerror or error}).{remedy}") from None
    with connection:
        if _encrypted():
            return
        answer = _first_headers(connection)
    if _GRPC not in answer:
        raise BadRequest(f"{said}something listens that is no Ray.{remedy}")
    # For `auto` Ray looks for its token by itself.
    if _NO_TOKEN in answer and named != "auto" and os.environ.get("RAY_AUTH_MODE") != "token":
        raise BadRequest(
            f"the Ray cluster at {address} asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN "
            "where ~/.ray/auth_token is not the cluster's"
        )


def private() -> ModuleType:
    """Return the module that uses Ray's own ones. Ray reads the environment when it is imported."""
    with ray_environment():
        from search.backends import ray_private

        return ray_private


def bootstrap_address(named: str) -> str:
    """Return the address `named`, or for auto that of the Ray that was started on this machine."""
    if named != "auto":
        return named
    try:
        return str(private().running_address())
    except ConnectionError:
        raise BadRequest(
            f"{ADDRESS} is auto, and no Ray runs on this machine: start one (ray start --head), name a "
            "cluster's host:port, or unset it to use this machine alone"
        ) from None


def _first_headers(connection: socket.socket) -> bytes:
    """Return the headers with which the other side answers Ray's first call; empty if it does not in time."""
    headers = ((b":path", _CALL), (b":authority", b"ray"), (b"content-type", _GRPC), (b"te", b"trailers"))
    plain = b"".join(b"\0" + bytes([len(k)]) + k + bytes([len(v)]) + v for k, v in headers)
    connection.settimeout(WAIT)
    end = time.monotonic() + WAIT
    try:
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _HEADERS_END, 1, _POST + _HTTP + plain)
            + _frame(_DATA, _STREAM_ENDS, 1, bytes(5))  # an empty message, not compressed
        )
        with connection.makefile("rb") as answer:
            while time.monotonic() < end and len(head := answer.read(9)) == 9:
                body = answer.read(int.from_bytes(head[:3], "big"))
                if head[3] == _HEADERS:
                    return body
    except OSError:
        pass
    return b""


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def _encrypted() -> bool:
    """Tell whether Ray is set to use TLS, under which the answer cannot be read."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")
