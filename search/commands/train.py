"""One run without Ray and without a study: `train`."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_core.aside import aside
from cl_core.errors import BadRequest, RunError, unknown
from search.storage.places import local_folder
from search.storage.scratch import scratch
from search.storage.trouble import ROOM, first_line
from search.worker.logs import log_file, recorded, stamp

if TYPE_CHECKING:
    from search.worker.runner import Progress, Runner
    from spaces.resolved.run_spec import RunSpec

SPEC = "trial.json"  # in the folder of a single trial: what was asked


PROTOCOLS: dict[str, dict[str, Any]] = {"shared-base": {"shared_base": True}, "chf": {"chf": {}}}
"""What a protocol asks of a single run; the others choose between runs, so they belong to studies."""


@dataclass(frozen=True)
class TrainRequest:
    """What `cl-search train` asks for."""

    method: str
    data: str
    scenario: str
    sets: Sequence[str] = field(default=())
    seed: int = 0
    class_order: str | None = None
    out: Path | None = None
    save: Path | None = None
    unsealed: bool = False
    validation: float = 0.1
    net: str | None = None
    threads: int | None = None
    device: str = "auto"
    download: bool = False
    until: int | None = None
    protocol: str | None = None  # one of PROTOCOLS

    def spec(self) -> RunSpec:
        """The run. Raises BadRequest for what can be known without the data."""
        from cl_core.images.data_spec import DataSpec
        from cl_core.method import METHODS
        from cl_core.recipe import resolve_recipe
        from cl_core.scenarios.scenarios import parse_scenario
        from cl_core.training.configuration import Configuration
        from spaces.resolved.run_spec import RunSpec, trial_digest

        hp, recipe, data, rest = settings(self.sets)
        # What no digest can be made of, such as .inf, is refused here.
        METHODS[self.method](hp)
        own = {key: value for key, value in recipe.items() if key not in ("base", "increment")}
        for part in ("base", "increment"):
            resolve_recipe(own, recipe.get(part) or {})
        if self.download:
            data["download"] = True
        net = rest.get("net", self.net)
        if net is not None and not isinstance(net, str):
            raise BadRequest(f"recipe.net must be a net's name, or module:function, not {net!r}")
        if not -(2**63) <= self.seed < 2**63:
            raise BadRequest(f"seed must fit into 64 bits, not {self.seed}")
        if not self.validation and not self.unsealed:
            raise BadRequest(
                "validation 0 leaves nothing to measure on: take 0.1, or add --unsealed for the test split"
            )
        if self.threads is not None and self.threads < 1:
            raise BadRequest(f"threads must be 1 or more, not {self.threads}")
        if self.protocol is not None and self.protocol not in PROTOCOLS:
            raise unknown("protocol of a single run", self.protocol, PROTOCOLS)
        configuration = Configuration(
            method=self.method,
            data=DataSpec.from_dict({"name": self.data, **data}),
            scenario=parse_scenario(self.scenario),
            hp=hp,
            recipe=recipe,
            net=net,
            class_order=self.class_order,
            seed=self.seed,
            validation=self.validation,
            unsealed=self.unsealed,
            device=self.device,
            threads=self.threads,
            until=self.until,
            **(PROTOCOLS[self.protocol] if self.protocol else {}),
        )
        cell = f"{self.method.replace(':', '-')}@{configuration.scenario.name}"
        digest = trial_digest({"hp": hp, "recipe": recipe, "net": net})
        return RunSpec(f"{cell}/0", cell, self.method.replace(":", "-"), 0, "search", digest, configuration)


def train(
    request: TrainRequest,
    say: Callable[[str], None] = lambda line: None,
    warn: Callable[[Sequence[str]], None] = lambda warnings: None,
) -> dict[str, Any]:
    """Carry the request out; returns its metrics, accuracy matrix and where things lie, as plain values.

    `say` is given a line a task, `warn` notes on the images and the protocol before work begins.
    Raises BadRequest before any work, RunError when training fails.
    """
    from cl_core.training.code import code_of
    from search.lake.writer import start_tables, study_schemas
    from search.storage.code_record import Code, check_code, write_code
    from search.worker.runner import Runner

    spec = request.spec()
    if request.save is not None:
        if request.save.is_dir():
            raise BadRequest(f"--save needs a file's name, and {request.save} is a folder: add one")
        check_writable(request.save.parent, "--save")
    if request.out is not None:
        check_writable(request.out, "--out")
        check_own(request.out, spec)
    with _lines(request.out, spec) as log:
        # What cannot be done shows here, before a folder is made: data, scenario, method, net, code.
        first = Runner(spec)
        code = Code(code_of(*spec.configuration.parts(first.data)))
        if request.out is not None:
            check_code(request.out, code, False, "name an empty folder")
        line = _without_effect(spec)
        warn([*first.data.notes, *([] if line is None else [line])])
        schemas = study_schemas([spec.configuration.method])
        checkpoints = None
        if request.out is not None:
            request.out.mkdir(parents=True, exist_ok=True)
            start_tables(request.out, schemas)
            checkpoints = request.out / "checkpoints"
            _write_text(request.out / SPEC, json.dumps(_identity(spec), indent=1, sort_keys=True))
            write_code(request.out, code)
        with recorded(log):
            runner = Runner(spec, request.out, checkpoints, schemas=schemas)
        if request.out is not None and request.unsealed:
            from search.lake.ledger import note_opening
            from search.lake.rows import versions

            study = spec.configuration.digest(runner.data)
            note_opening(request.out, "trial --unsealed", study, [spec.cell], 1, versions())
        split = "test" if request.unsealed else "val"
        while True:
            with recorded(log):
                progress = runner.step()
                stamp(line_of(progress, spec.objectives[0]))
            say(line_of(progress, spec.objectives[0]))
            if progress.done:
                break
        if progress.status == "failed":
            kept = f"cl-search logs {request.out} {spec.run}" if request.out else "--out DIR keeps it"
            raise RunError(f"{progress.error} (full output: {kept})")
        with recorded(log):
            out = outcome(runner, split)
        if request.save is not None:
            runner.save_model(request.save)
            out["model"] = str(request.save)
    if request.out is not None:
        out["folder"] = str(request.out)
    return out


def _without_effect(spec: RunSpec) -> str | None:
    """Where the protocol of a single run finds nothing to act on."""
    from cl_core.method import METHODS
    from cl_core.training import chf, shared_base

    configuration = spec.configuration
    method = METHODS[configuration.method](configuration.hp)
    if configuration.chf is not None and (line := chf.idle(method, configuration.hp)):
        return line
    return shared_base.idle(method) if configuration.shared_base else None


def outcome(runner: Runner, split: str) -> dict[str, Any]:
    """A run's metrics and accuracy matrix on a split, as JSON carries them: what is undefined is null."""
    from cl_core.metrics import accuracy_matrix

    matrix = accuracy_matrix(runner.confusions(split), runner.training.sizes)
    configuration = runner.spec.configuration
    return {
        "method": configuration.method,
        "data": runner.data.name,
        "scenario": configuration.scenario.name,
        "split": split,
        "seed": configuration.seed,
        **{name: _finite(value) for name, value in runner.metrics(split).items()},
        "accuracy_matrix": [[_finite(float(value)) for value in row] for row in matrix],
    }


def settings(sets: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """`key=value` texts as (hp, recipe, data, rest). Raises BadRequest on a key that is none."""
    from cl_core.yaml_text import read_value

    hp: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    data: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadRequest(f"--set takes key=value, not {text!r}; e.g. --set hp.kd_weight=3")
        group, _, name = key.strip().partition(".")
        parsed = read_value(value, f"--set {key.strip()}")
        if group == "hp" and name:
            hp[name] = parsed
        elif group == "data" and name:
            data[name] = parsed
        elif group == "recipe" and name in ("net", "base.net"):
            rest["net"] = parsed
        elif group == "recipe" and name:
            part, dot, inner = name.partition(".")
            if dot:
                recipe.setdefault(part, {})[inner] = parsed
            elif name in ("base", "increment"):
                raise BadRequest(
                    f"--set recipe.{name}: a field of it is set alone, as in recipe.{name}.epochs=2"
                )
            else:
                recipe[name] = parsed
        else:
            raise BadRequest(
                f"--set {key.strip()!r}: a trial's keys begin with hp., recipe. or data. (hp.kd_weight=3)"
            )
    return hp, recipe, data, rest


def check_writable(folder: Path, what: str) -> None:
    """Raise BadRequest unless `folder`, or the nearest one above it that exists, takes a megabyte."""
    place = local_folder(folder, what).absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise BadRequest(f"{what} needs a folder, and {place} is a file: name another place")
    try:
        # Permission bits say little to an administrator, and nothing of what a file system allows.
        with tempfile.TemporaryFile(dir=place) as file:  # it has no name where the system can do without
            file.write(bytes(ROOM))
            file.flush()
    except OSError as error:
        trouble = error.strerror or type(error).__name__
        raise BadRequest(f"{what} must be writable, and {place} is not ({trouble}): name another") from error


def check_own(out: Path, spec: RunSpec) -> None:
    """Raise BadRequest when `out` holds another trial or a study: tables must not be mixed."""
    if (out / "study.yaml").exists():
        raise BadRequest(f"{out} holds a study: a trial's --out must be a folder of its own")
    if (out / SPEC).exists():
        if _identity(asked_of(out)) != _identity(spec):
            raise BadRequest(f"{out} holds another trial: name an empty folder")
    elif out.exists() and (strange := sorted(p.name for p in out.iterdir() if not p.name.startswith("."))):
        raise BadRequest(f"{out} holds {strange[0]!r} and no {SPEC}: name an empty folder")


def asked_of(folder: Path) -> RunSpec:
    """The run that a single trial's folder was made for. Raises BadRequest where that is not readable."""
    from spaces.resolved.run_spec import RunSpec

    try:
        return RunSpec.from_dict(_read_json(folder / SPEC))
    except (KeyError, TypeError) as error:
        raise BadRequest(f"{folder / SPEC} is damaged ({first_line(error)}): name another folder") from error


def _identity(spec: RunSpec) -> dict[str, Any]:
    plain_values: dict[str, Any] = json.loads(json.dumps(spec.to_dict()))
    return plain_values


@contextlib.contextmanager
def _lines(out: Path | None, spec: RunSpec) -> Iterator[Path]:
    """Where the output of the run goes: its log, or a file that is gone afterwards."""
    if out is not None:
        yield log_file(out, spec.run)
        return
    with scratch() as folder:
        yield folder / "log"


def line_of(progress: Progress, objective: str) -> str:
    value = "" if progress.value is None else f", {objective.replace('_', ' ')} {progress.value:.4f}"
    return f"task {progress.task + 1} of {progress.tasks}: {progress.status}{value}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRequest(f"cannot read {path}: {error}; name another folder") from error
    if not isinstance(value, dict):
        raise BadRequest(f"{path} must hold an object; name another folder")
    return value


def _write_text(path: Path, text: str) -> None:
    with aside(path) as hidden:
        hidden.write_text(text + "\n", encoding="utf-8")
