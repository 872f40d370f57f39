"""Credentials, which Ray Tune would send to workers, stay with the driver."""

from __future__ import annotations

from ray.tune.execution import class_cache

from search.backends.tune_credentials import credentials_kept


def test_tune_sends_no_credentials_to_workers() -> None:
    before = set(class_cache.ENV_VARS_TO_PROPAGATE)
    assert "AWS_SECRET_ACCESS_KEY" in before
    with credentials_kept():
        assert not [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
    assert before == class_cache.ENV_VARS_TO_PROPAGATE
