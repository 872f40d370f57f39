"""Protocols of a study: on what trials are selected, and what the selection has seen.

validation   all tasks, on rows held out of the training split; this is hindsight, as all tasks are known
first-k      the first k tasks only; the selected trial then trains all tasks
gtep         one half of the classes, or one data set; the selected trial is judged on the other
             (Cha & Cho, Hyperparameters in Continual Learning: a Reality Check, arXiv 2403.09066)
chf          task by task, from past data only, inside each run (De Lange et al., A Continual Learning
             Survey, TPAMI 2021, the continual hyperparameter framework)
adaptive     as chf, but every task is learnt several times with values that Optuna proposes, and the best
             attempt on validation rows of the classes seen so far is kept (Gok Yildirim et al., AdaCL, arXiv
             2303.13113)
oracle-test  on the test split; an upper bound, labelled wherever its numbers are shown
shared-base  as validation, with one first task for all methods
fixed        nothing is selected: every value is fixed, runs train on all training rows, and the test split
             measures them, as papers report it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from cl_core.errors import BadRequest
from cl_core.hparams import from_dict
from cl_core.records import ORACLE
from cl_core.training.chf_options import CHF
from spaces.study.confirmation import AUTO, Confirm
from spaces.study.data import DataPart, data_from_name
from spaces.study.messages import known_keys, one_line
from spaces.study.part import Part

MOST_REPEATS = 1_000  # class orders or seeds of a trial
OTHER_HALF = "other half"
INSIDE_RUNS = ("chf", "adaptive")  # protocols that choose values task by task, inside each run


def _chf(value: object) -> object:
    """Read the options of CHF; its error messages name the key."""
    if value is None or isinstance(value, CHF):
        return value
    if not isinstance(value, Mapping):
        raise BadRequest(f"protocol.chf must be a mapping, not {value!r}: write chf: {{attempts: 6}}")
    try:
        return from_dict(CHF, value, "key of protocol.chf")
    except BadRequest as error:
        raise BadRequest(f"protocol.chf: {error}") from None


def unconfirmed(select_on: str, aggregate: str) -> str:
    """Return why a protocol confirms nothing; empty where it may."""
    if select_on in INSIDE_RUNS:
        return f"under select_on {select_on} a cell has one trial, which chooses inside its runs"
    if select_on == "oracle-test":
        return "under select_on oracle-test the test split itself selects, as an upper bound"
    if select_on == "fixed":
        return "under select_on fixed nothing is selected"
    if aggregate == "worst":
        return "it compares means over class orders, but protocol.aggregate is worst"
    return ""


class AdaptivePart(Part):
    """The search at every task."""

    attempts: int = Field(
        default=6,
        ge=1,
        le=1000,
        description="trainings of each task after the first; the first has the default values",
    )


def _evaluate_on(value: object) -> object:
    """Read a data part; its error messages name the whole key."""
    if value is None or value == OTHER_HALF or isinstance(value, DataPart):
        return None if value == OTHER_HALF else value
    plain = data_from_name(value)
    if not isinstance(plain, Mapping):
        raise BadRequest(f"protocol.evaluate_on must be a data set or {OTHER_HALF!r}, not {value!r}")
    known_keys(DataPart, plain, "protocol.evaluate_on.")
    try:
        return DataPart.model_validate(dict(plain))
    except ValidationError as error:
        raise BadRequest(f"protocol.evaluate_on.{one_line(error)}") from None


class ProtocolPart(Part):
    """The rows, class orders and seeds on which trials are judged."""

    select_on: Literal[
        "validation", "first-k", "gtep", "chf", "adaptive", "oracle-test", "shared-base", "fixed"
    ] = Field(
        default="validation",
        description="how trials are selected: on held-out training rows (validation), on the first k tasks "
        "(first-k), on half of the classes (gtep), task by task (chf), by a search at every task (adaptive), "
        "on the test split (oracle-test), as validation with one first task for all methods (shared-base), "
        "or not at all, with every value fixed and no row held out (fixed)",
    )
    first: int | None = Field(default=None, ge=2, description="for first-k: the number of tasks k")
    evaluate_on: Annotated[DataPart | None, BeforeValidator(_evaluate_on)] = Field(
        default=None,
        description="for gtep: data to judge selected trials on, with the keys of `data`; by default the "
        f"{OTHER_HALF} of the classes",
    )
    chf: Annotated[CHF | None, BeforeValidator(_chf)] = Field(
        default=None, description="for chf: how hyperparameters are chosen"
    )
    adaptive: AdaptivePart | None = Field(
        default=None, description="for adaptive: how hyperparameters are searched at every task"
    )
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="share of each class's training rows that is held out"
    )
    orders: int = Field(
        default=1,
        ge=1,
        le=MOST_REPEATS,
        description="class orders of each trial: the scenario's own, then seed:1, seed:2, ...",
    )
    spread: int | Literal["auto"] = Field(
        default=AUTO,
        description="number of class orders that trials take in turn, each one of them; the first trials are "
        "the published default on each; auto: by the budget; 1: all trials on the same",
    )
    seeds: int = Field(
        default=1, ge=1, le=MOST_REPEATS, description="training seeds of each trial: 0, 1, ..."
    )
    aggregate: Literal["mean", "worst"] = Field(
        default="mean", description="how objectives are aggregated over class orders and seeds"
    )
    confirm: Confirm = Field(
        default=AUTO,
        description="train the most promising trials and the published default on fresh class orders "
        "before the selection; its runs count as part of search.trials; auto: by the budget; none: off",
    )
    keep_default: float = Field(
        default=0.7,
        ge=0.5,
        lt=1,
        description="with confirm: select a trial in place of the published default if it is better with "
        "at least this probability",
    )

    @model_validator(mode="before")
    @classmethod
    def _fits_together(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        select = value.get("select_on", "validation")
        if select == "test":
            raise BadRequest(
                "protocol.select_on must not be test, because the test numbers are reported: take "
                "validation, or oracle-test, which is labelled everywhere"
            )
        for key, owner in (
            ("first", "first-k"),
            ("evaluate_on", "gtep"),
            ("chf", "chf"),
            ("adaptive", "adaptive"),
        ):
            if value.get(key) is not None and select != owner:
                raise BadRequest(
                    f"protocol.{key} needs select_on {owner}, but select_on is {select}: remove one of them"
                )
        spread = value.get("spread", AUTO)
        if spread != AUTO and (type(spread) is not int or not 1 <= spread <= MOST_REPEATS):
            raise BadRequest(
                f"protocol.spread must be auto or a whole number in [1, {MOST_REPEATS}], not {spread!r}: "
                "take 2"
            )
        asked = value.get("confirm", AUTO) not in (None, "none", AUTO)
        if asked and (reason := unconfirmed(select, str(value.get("aggregate", "mean")))):
            raise BadRequest(f"protocol.confirm must be none: {reason}")
        if select == "first-k" and value.get("first") is None:
            raise BadRequest("protocol.select_on first-k needs a number of tasks: set protocol.first to 3")
        if select in INSIDE_RUNS and value.get(select) is None:
            return {**value, select: {}}
        return value

    @property
    def turns(self) -> int:
        """The class orders that trials take in turn; 1 where all train on the same."""
        return self.spread if isinstance(self.spread, int) else 1

    @property
    def inside_runs(self) -> bool:
        """True if values are chosen inside each run, task by task: a cell then has one trial."""
        return self.select_on in INSIDE_RUNS

    @property
    def held_out(self) -> float:
        """The share of each class's training rows that no run of the search trains on."""
        return 0.0 if self.select_on == "fixed" else self.validation

    @property
    def opens_test(self) -> bool:
        """True if the runs of the search are measured on the test split."""
        return self.select_on in ("oracle-test", "fixed")

    @property
    def split(self) -> str:
        """The split that decides the selection, or that measures where nothing is selected."""
        return "test" if self.opens_test else "val"

    @property
    def causal(self) -> str:
        """The data that the selection has seen, in one line."""
        return {
            "validation": "non-causal: trials are judged after all tasks",
            "first-k": f"causal after task {self.first}: trials are judged by the first {self.first} tasks",
            "gtep": "tuned on other data: trials are judged on "
            + ("the other half of the classes" if self.evaluate_on is None else self.evaluate_on.name)
            + " only after the selection",
            "chf": "causal: past data only, task by task",
            "adaptive": "causal: past data only, task by task",
            "oracle-test": "non-causal: trials are judged after all tasks, on the test split itself",
            "shared-base": "non-causal: trials are judged after all tasks; one first task for all methods",
            "fixed": "nothing is selected: runs train on all training rows and are measured on test rows",
        }[self.select_on]

    @property
    def said(self) -> str:
        """The protocol and what it has seen, in one line."""
        return f"{self.select_on}, {self.causal}"

    @property
    def label(self) -> str:
        """The label of every number of the protocol; empty if it needs none."""
        return ORACLE if self.select_on == "oracle-test" else ""

    def fixed(self) -> dict[str, Any]:
        """Return what may not change when a run folder is continued, without keys of other protocols."""
        plain = self.model_dump(exclude={"orders", "spread", "seeds", "confirm", "keep_default"})
        if self.evaluate_on is not None:
            plain["evaluate_on"] = self.evaluate_on.spec().identity()
        return {key: value for key, value in plain.items() if value is not None}


class FinalPart(Part):
    """The final runs: selected trials and defaults, trained again for the sealed test."""

    orders: int = Field(default=5, ge=1, le=MOST_REPEATS, description="class orders of each final run")
    seeds: int = Field(
        default=1,
        ge=1,
        le=MOST_REPEATS,
        description="training seeds of each final run; the search has used none of them",
    )


def check_protocol(protocol: ProtocolPart, stopper: str, scenario: str, tasks: int) -> int:
    """Return the number of tasks that a run of the search trains. Raises BadRequest for an impossible one."""
    select = protocol.select_on
    if protocol.first is not None and protocol.first > tasks:
        raise BadRequest(
            f"protocol.first {protocol.first} is more than the {tasks} tasks of scenario {scenario}: take "
            f"{tasks} or fewer, or validation for all of them"
        )
    if protocol.inside_runs and stopper != "none":
        raise BadRequest(
            f"search.stopper {stopper} compares trials, but under protocol.select_on {select} a cell has "
            "one: set search.stopper to none"
        )
    if protocol.first == 2 and stopper in ("asha", "hyperband", "median"):
        raise BadRequest(
            f"search.stopper {stopper} stops no trial before the end of its second task, which is the last "
            "under protocol.first 2: set protocol.first to 3 or more, or search.stopper to none"
        )
    return protocol.first or tasks
