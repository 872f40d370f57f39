"""Environment variables of Ray while a study runs: no output, no loggers. They are restored afterwards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the only engine that verbose=0 silences
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a FutureWarning at the start of every worker
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker died or was killed",  # the run's log says so; read at ray's import
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths and the user's modules keep their meaning
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # snapshots cost time, and are not read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
}


@contextlib.contextmanager
def ray_environment() -> Iterator[None]:
    """Set the variables that are not set already. Import ray inside the block: it reads some at import."""
    added = [name for name in _ENVIRONMENT if name not in os.environ]
    os.environ.update({name: _ENVIRONMENT[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
