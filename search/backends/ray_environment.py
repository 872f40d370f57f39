"""Environment variables of Ray while a study runs: no output, no loggers. They are restored afterwards.

A cluster that runs already does not see them, so its workers get theirs by `worker_variables`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import search

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

_FORWARDED = ("CL_SEARCH_CACHE", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE")


def worker_variables(threads: int) -> dict[str, str]:
    """Return the environment variables of workers, with those of this process that decide what they do.

    Workers import cl-search, and what is on PYTHONPATH, from the same places as this process.
    """
    forwarded = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    own = Path(search.__file__).parents[1]
    places = [str(Path(path).absolute()) for path in given]
    if own.name not in ("site-packages", "dist-packages"):  # a source tree: no node has it installed
        places = [str(own), *(place for place in places if place != str(own))]
    paths = {"PYTHONPATH": os.pathsep.join(places)} if places else {}
    return {**_ENVIRONMENT, "OMP_NUM_THREADS": str(threads), **forwarded, **paths}


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
