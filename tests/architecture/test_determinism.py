"""Keep runs reproducible: named streams instead of global generators, one backward, nothing unpickled."""

from __future__ import annotations

from tests.architecture.sources import RUN_FILES, calls, imports, name

PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNPICKLE = {"torch.load", "pickle.load", "pickle.loads", "pd.read_pickle"}
SEED = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed_all"}
NUMPY = {"default_rng", "RandomState", "Generator"}


def test_nothing_is_unpickled() -> None:
    for path in RUN_FILES:
        for line, module, _ in imports(path):
            assert module.split(".")[0] not in PICKLES, f"{name(path)}:{line}"
        for line, call in calls(path):
            assert call not in UNPICKLE, f"{name(path)}:{line}"


def test_draws_take_a_generator_from_a_named_stream() -> None:
    for path in RUN_FILES:
        for line, module, _ in imports(path):
            core = name(path).startswith("cl_core/")
            assert not (core and module.split(".")[0] == "random"), f"{name(path)}:{line}"
        for line, call in calls(path):
            assert call not in SEED, f"{name(path)}:{line}"
            if call.startswith(("np.random.", "numpy.random.")):
                assert call.rsplit(".", 1)[1] in NUMPY, f"{name(path)}:{line}"


def test_torch_s_global_generator_is_seeded_in_one_place_where_runs_of_a_process_take_turns() -> None:
    seeding = ("torch.random.fork_rng", "torch.default_generator.manual_seed")
    found = {name(p) for p in RUN_FILES for _, call in calls(p) if call in seeding}
    assert found == {"cl_core/rng.py"}


def test_the_step_owns_the_only_backward() -> None:
    found = [name(p) for p in RUN_FILES for _, call in calls(p) if call.endswith(".backward")]
    assert found == ["cl_core/training/step.py"]
