"""Credentials of the driver, which Ray Tune would send to its workers. Ray logs what it sends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ray.tune.execution import class_cache


@contextlib.contextmanager
def credentials_kept() -> Iterator[None]:
    """Keep Tune from sending the driver's AWS credentials to workers: Ray logs what it sends.

    Workers have those of their own node.
    """
    sent: set[str] = class_cache.ENV_VARS_TO_PROPAGATE
    kept = {name for name in sent if name.startswith("AWS_")}
    sent -= kept
    try:
        yield
    finally:
        sent |= kept
