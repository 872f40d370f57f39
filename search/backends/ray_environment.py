"""Ray's environment while a study runs: silent, without loggers of its own, and put back afterwards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the only engine that verbose=0 silences
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a FutureWarning at every worker's start
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker died or was killed",  # the run's log says so; read at ray's import
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths and modules of one's own mean what they mean to the user
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # snapshots cost time with every trial and nobody reads them
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
}


@contextlib.contextmanager
def ray_environment() -> Iterator[None]:
    """Set what is not set already; import ray inside the block, since some of it is read at import."""
    added = [name for name in _ENVIRONMENT if name not in os.environ]
    os.environ.update({name: _ENVIRONMENT[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
