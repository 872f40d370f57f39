"""Keep runs reproducible: named streams instead of global generators, one backward, nothing unpickled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.sources import RUN_FILES, calls, imports, name


@pytest.mark.parametrize("path", RUN_FILES, ids=name)
def test_nothing_is_unpickled_and_no_global_generator_is_used(path: Path) -> None:
    for line, module, _ in imports(path):
        top = module.split(".")[0]
        assert top not in {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, f"line {line}"
        if name(path).startswith("cl_core/"):
            assert top != "random", f"line {line}: draws take a generator from a named stream"
    for line, call in calls(path):
        assert call not in {"torch.load", "pickle.load", "pickle.loads", "pd.read_pickle"}, f"line {line}"
        assert call not in {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed_all"}, f"line {line}"
        if call.startswith(("np.random.", "numpy.random.")):
            assert call.rsplit(".", 1)[1] in {"default_rng", "RandomState", "Generator"}, f"line {line}"


def test_the_learner_owns_the_only_backward() -> None:
    found = [name(p) for p in RUN_FILES for _, call in calls(p) if call.endswith(".backward")]
    assert found == ["cl_core/training/learner.py"]
