"""One run as plain values. It needs no torch; `cl_core.training.checks` says whether it can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import Value, digest, from_dict, hparams
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data
from cl_core.recipe import PARTS, Recipe, resolve_recipe
from cl_core.scenarios.class_orders import class_order
from cl_core.scenarios.scenarios import ScenarioSpec, parse_scenario
from cl_core.training.adaptive_options import Adaptive
from cl_core.training.chf_options import CHF

if TYPE_CHECKING:
    from cl_core.method import Method


@dataclass(frozen=True)
class Configuration:
    """All values that decide a run's numbers. `to_dict` and `from_dict` are exact inverses over JSON.

    `recipe` holds recipe fields for all tasks and, under "base" and "increment", those for the first task and
    for the others. `net` None means the data set's. `device` and `precision` "auto" mean the GPU with bf16 if
    there is one. With `until` the run ends after that many tasks of the scenario; so far, class order, width
    of the head and checkpoints are those of the whole scenario. With `shared_base` every method
    begins its increments from one network of the first task, that of `plain` (see `shared_base`). With `chf`,
    options of `CHF`, learning rate and stability are set task by task. With `adaptive`, options of
    `Adaptive`, hyperparameters are searched again at every task.
    """

    method: str
    data: DataSpec
    scenario: ScenarioSpec
    hp: Mapping[str, Value] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    net: str | None = None
    class_order: str | None = None  # None: the scenario's
    seed: int = 0
    validation: float = 0.1
    unsealed: bool = False
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    init: str | None = None
    until: int | None = None
    shared_base: bool = False
    chf: Mapping[str, Any] | None = None
    adaptive: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can carry."""
        out = {name: getattr(self, name) for name in self.__dataclass_fields__}
        out["data"], out["scenario"] = self.data.to_dict(), self.scenario.to_dict()
        out["hp"] = dict(self.hp)
        out["chf"] = None if self.chf is None else dict(self.chf)
        out["adaptive"] = None if self.adaptive is None else dict(self.adaptive)
        out["recipe"] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in self.recipe.items()}
        return out

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Configuration:
        """The configuration that `to_dict` described. Raises BadRequest on an unknown key."""
        for key in values:
            if key not in cls.__dataclass_fields__:
                raise unknown("configuration key", key, cls.__dataclass_fields__)
        rest = {k: v for k, v in values.items() if k not in ("data", "scenario")}
        return cls(
            data=DataSpec.from_dict(values["data"]),
            scenario=parse_scenario(values["scenario"]),
            **rest,
        )

    def plain(self) -> Configuration:
        """Return the configuration of fine-tuning, whose first task `shared_base` shares."""
        return replace(self, method="finetune", hp={}, shared_base=False)

    def parts(self, data: Data) -> tuple[str, str, str]:
        """Return the names of method, net and data set."""
        return self.method, self.net or data.net, self.data.name

    def framework(self) -> CHF | None:
        """Return the options of CHF, or None without it. Raises BadRequest."""
        if self.chf is None:
            return None
        if not isinstance(self.chf, Mapping):
            raise BadRequest(f"chf must be a mapping of its options, such as {{drop: 0.2}}, not {self.chf!r}")
        return from_dict(CHF, self.chf, "key of chf")

    def adaptation(self) -> Adaptive | None:
        """Return the options of task-wise adaptation, or None without it. Raises BadRequest."""
        if self.adaptive is None:
            return None
        if not isinstance(self.adaptive, Mapping):
            raise BadRequest(
                f"adaptive must be a mapping of its options, such as {{attempts: 6}}, not {self.adaptive!r}"
            )
        for key in self.adaptive:
            if key not in Adaptive.__dataclass_fields__:
                raise unknown("key of adaptive", key, Adaptive.__dataclass_fields__)
        return Adaptive(**self.adaptive)

    def with_values(self, values: Mapping[str, Value]) -> Configuration:
        """Return the configuration with other values for later tasks: "hp.kd_weight", "recipe.lr"."""
        hp = {name[3:]: value for name, value in values.items() if name.startswith("hp.")}
        fields = {name[7:]: value for name, value in values.items() if name.startswith("recipe.")}
        increment = {**(self.recipe.get("increment") or {}), **fields}
        return replace(self, hp={**self.hp, **hp}, recipe={**self.recipe, "increment": increment})

    def order(self, num_classes: int, class_names: tuple[str, ...] = ()) -> tuple[int, ...]:
        """The original class id at each arrival position."""
        return class_order(self.class_order or self.scenario.class_order, num_classes, class_names)

    def recipes(self, data: Data, method: Method) -> tuple[Recipe, Recipe]:
        """The resolved recipes of the first task and of the increments. Raises BadRequest.

        A method that restarts at every task keeps the first task's. A shared first task has the study's
        recipe, without the defaults of the method's own family.
        """
        known = [*hparams(Recipe), *PARTS]
        for key in self.recipe:
            if key not in known:
                raise unknown("recipe key", key, known)
        for part in PARTS:
            given = self.recipe.get(part) or {}
            if not isinstance(given, Mapping):
                raise BadRequest(f"recipe.{part} must be a mapping of recipe fields, not {given!r}")
        common = {k: v for k, v in self.recipe.items() if k not in PARTS}
        own = {"base": {} if self.shared_base else method.base().recipe, "increment": method.recipe()}
        base, increment = (
            resolve_recipe(data.recipe, own[part], common, self.recipe.get(part) or {}) for part in PARTS
        )
        return base, base if method.restarts else increment

    def digest(self, data: Data) -> str:
        """Return a digest, equal for runs with equal numbers on one machine, wherever the data lies."""
        plain = self.to_dict()
        plain["data"] = data.fingerprint
        return digest(plain)
