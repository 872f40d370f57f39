"""A typed, tolerant reader of study.yaml: everything that reports and `cl-search status` need of a study.

Values that are missing or of another type count as not given. `plain` keeps the whole file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.lake.run_folder import STUDY
from cl_core.errors import BadRequest, first_line
from cl_core.metrics import OBJECTIVES
from cl_core.records import ORACLE
from cl_core.yaml_text import read_yaml

DEFAULT_OBJECTIVE = {"average_incremental_accuracy": "max"}


@dataclass(frozen=True)
class ProtocolRecord:
    """The rule by which trials are selected, and the runs of a trial."""

    select_on: str = "validation"
    worst: bool = False  # the worst run counts, not the mean
    first: int | None = None  # tasks that first-k looks at
    runs: int = 1  # class orders x seeds of a trial
    turns: int = 1  # class orders that trials take in turn
    keep_default: float = 0.7  # the probability from which on a confirmed trial replaces the default

    @property
    def label(self) -> str:
        """The words that must stand beside every number; empty where none must."""
        return ORACLE if self.select_on == "oracle-test" else ""

    @property
    def split(self) -> str:
        """The split that trials are selected on, or measured on where nothing is selected."""
        return "test" if self.label or self.select_on == "fixed" else "val"

    def over_runs(self, direction: str) -> str:
        """Name the statistic of a trial's runs: mean, or the worst by a metric's direction: min or max."""
        return "mean" if not self.worst else "min" if direction == "max" else "max"


@dataclass(frozen=True)
class Figure:
    """One published figure; None: every scenario or label of the study, or the method's own classifier."""

    metric: str
    value: float
    spread: float | None  # half of the published range
    scenario: str | None
    label: str | None
    classifier: str | None
    source: str


@dataclass(frozen=True)
class PublishedRecord:
    """Published figures, and what the study sets otherwise than their setting."""

    figures: tuple[Figure, ...]
    data: str  # the data set of the figures
    differs: tuple[str, ...]  # as key value (published: value)


@dataclass(frozen=True)
class CellRecord:
    """One cell as study.yaml lists it under `resolved`."""

    name: str
    budget: int | None = None  # trials
    reused: int = 0  # further trials that share the training of each of them
    direction: str | None = None  # of its own search, where it differs
    seeks: str = ""  # hardest | easiest, where class orders are searched
    confirm: tuple[int, int] | None = None  # trials and class orders of the confirmation
    parameters: Sequence[Mapping[str, Any]] | None = None
    adapted: tuple[str, ...] = ()  # columns of `tasks` that are searched again at every task


@dataclass(frozen=True)
class Resolution:
    """Facts that a study met when it began."""

    identity: str = ""
    fingerprint: str = ""  # of the images
    causal: str = ""
    direction: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    cells: tuple[CellRecord, ...] = ()


@dataclass(frozen=True)
class StudyRecord:
    """The study of a run folder."""

    name: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    scenarios: tuple[str, ...] = ()
    seeks: Mapping[str, str] = field(default_factory=dict)  # scenario -> hardest | easiest class order
    labels: tuple[str, ...] = ()
    objectives: Mapping[str, str] = field(default_factory=lambda: DEFAULT_OBJECTIVE)  # name -> max | min
    sampler: str = ""
    sampler_args: Mapping[str, Any] = field(default_factory=dict)
    stopper: str = "none"
    start_from: tuple[str, ...] = ("paper",)
    protocol: ProtocolRecord = ProtocolRecord()
    gpu: float | None = None  # GPUs of one run
    published: PublishedRecord | None = None
    resolved: Resolution = Resolution()
    plain: Mapping[str, Any] = field(default_factory=dict)

    @property
    def objective(self) -> tuple[str, str]:
        """The first objective and its direction, max or min."""
        return next(iter(self.objectives.items()))

    @property
    def reuses(self) -> bool:
        """Tell whether trials may share the training of another one."""
        return _mapping(self.plain.get("search")).get("reuse") is True

    @property
    def starts_from_paper(self) -> bool:
        """Tell whether trial 0 of every cell holds the published defaults."""
        return "paper" in self.start_from

    def initial_weights(self, label: str) -> str | None:
        """Return the file of the weights that a label's networks begin from; None where they are drawn."""
        method = _mapping(_mapping(self.plain.get("methods")).get(label))
        init = {**_mapping(self.plain.get("recipe")), **_mapping(method.get("recipe"))}.get("init")
        return None if init is None else str(init)


def read_study(folder: Path) -> StudyRecord | None:
    """Read the study.yaml of a run folder; None where there is none. Raises BadRequest when it is damaged."""
    path = folder / STUDY
    try:
        plain = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"cannot read {path}: {first_line(error)}; restore it or run again elsewhere"
        ) from error
    if plain is None:
        return None
    if not isinstance(plain, dict):
        raise BadRequest(
            f"{path} must hold a mapping, not a {type(plain).__name__}; restore it from the study"
        )
    return study_record(plain)


def study_record(plain: Mapping[str, Any]) -> StudyRecord:
    """Read a study from plain values."""
    data, search = plain.get("data"), _mapping(plain.get("search"))
    scenarios = plain.get("scenarios")
    resources = _mapping(plain.get("resources"))
    share = None if resources.get("together") == "auto" else resources.get("gpu")
    start = search.get("start_from", ["paper"])
    return StudyRecord(
        name=str(plain.get("study") or ""),
        data=data if isinstance(data, Mapping) else {"name": str(data)} if data else {},
        scenarios=_names(scenarios),
        seeks={
            str(item.get("name")): str(item["class_order"])
            for item in (scenarios if isinstance(scenarios, list) else ())
            if isinstance(item, Mapping) and item.get("class_order") in ("hardest", "easiest")
        },
        labels=_names(plain.get("methods")),
        objectives=_objectives(search.get("objective")),
        sampler=str(search.get("sampler", "")),
        sampler_args=_mapping(search.get("sampler_args")),
        stopper=str(search.get("stopper", "none")),
        start_from=tuple(map(str, [start] if isinstance(start, str) else start or ())),
        protocol=_protocol(_mapping(plain.get("protocol"))),
        gpu=float(share) if isinstance(share, int | float) and share > 0 else None,
        published=_published(_mapping(plain.get("published")), _mapping(plain.get("resolved"))),
        resolved=_resolution(_mapping(plain.get("resolved"))),
        plain=plain,
    )


def _protocol(plain: Mapping[str, Any]) -> ProtocolRecord:
    counts = [plain.get(key, 1) for key in ("orders", "seeds")]
    return ProtocolRecord(
        select_on=str(plain.get("select_on") or "validation"),
        worst=plain.get("aggregate") == "worst",
        first=plain.get("first"),
        runs=counts[0] * counts[1] if all(isinstance(count, int) for count in counts) else 1,
        turns=turns if isinstance(turns := plain.get("spread"), int) else 1,
        keep_default=float(keep) if isinstance(keep := plain.get("keep_default"), int | float) else 0.7,
    )


def _published(plain: Mapping[str, Any], resolved: Mapping[str, Any]) -> PublishedRecord | None:
    if not plain:
        return None
    figures = [_figure(item) for item in _list(plain.get("figures")) if isinstance(item, Mapping)]
    differs = tuple(map(str, _list(resolved.get("differs"))))
    return PublishedRecord(tuple(filter(None, figures)), str(plain.get("data") or ""), differs)


def _figure(plain: Mapping[str, Any]) -> Figure | None:
    value, spread = plain.get("value"), plain.get("spread")
    if plain.get("metric") not in OBJECTIVES or not isinstance(value, int | float):
        return None
    scenario, label, classifier = (
        None if plain.get(key) is None else str(plain[key]) for key in ("scenario", "label", "classifier")
    )
    known = float(spread) if isinstance(spread, int | float) else None
    source = str(plain.get("source") or "")
    return Figure(str(plain["metric"]), float(value), known, scenario, label, classifier, source)


def _objectives(named: object) -> Mapping[str, str]:
    if isinstance(named, Mapping) and named:
        return {str(name): str(direction) for name, direction in named.items()}
    if isinstance(named, str):
        return {named: OBJECTIVES.get(named, ("max", ""))[0]}
    return DEFAULT_OBJECTIVE


def _resolution(plain: Mapping[str, Any]) -> Resolution:
    direction = plain.get("direction")
    return Resolution(
        identity=str(plain.get("identity") or ""),
        fingerprint=str(plain.get("fingerprint") or ""),
        causal=str(plain.get("causal") or ""),
        direction=None if direction is None else str(direction),
        versions={str(name): str(version) for name, version in _mapping(plain.get("versions")).items()},
        warnings=tuple(map(str, _list(plain.get("warnings")))),
        cells=tuple(_cell(cell) for cell in _list(plain.get("cells")) if isinstance(cell, Mapping)),
    )


def _cell(plain: Mapping[str, Any]) -> CellRecord:
    budget, direction, parameters = (plain.get(key) for key in ("budget", "direction", "parameters"))
    return CellRecord(
        name=str(plain.get("name")),
        budget=budget if isinstance(budget, int) else None,
        reused=reused if isinstance(reused := plain.get("reused"), int) else 0,
        direction=None if direction is None else str(direction),
        seeks=str(plain.get("seeks") or ""),
        confirm=_confirm(_mapping(plain.get("confirm"))),
        parameters=parameters,
        adapted=tuple(
            str(item.get("name"))
            for item in _list(_mapping(plain.get("proposer")).get("parameters"))
            if isinstance(item, Mapping) and ("kind" in item or "choices" in item)
        ),
    )


def _confirm(plain: Mapping[str, Any]) -> tuple[int, int] | None:
    top, orders = plain.get("top"), plain.get("orders")
    return (top, orders) if isinstance(top, int) and isinstance(orders, int) else None


def _names(value: object) -> tuple[str, ...]:
    """The names in a list or mapping of methods or scenarios."""
    if isinstance(value, Mapping):
        return tuple(map(str, value))
    return tuple(
        str(item.get("name") or item.get("label") or next(iter(item), ""))
        if isinstance(item, Mapping)
        else str(item)
        for item in _list(value)
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
