"""The request of `cl-search train`, checked into the run that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl_core.errors import BadRequest, unknown
from cl_core.images.data_spec import DataSpec
from cl_core.method import METHODS
from cl_core.recipe import resolve_recipe
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.configuration import Configuration
from cl_core.yaml_text import read_value
from spaces.resolved.run_spec import RunSpec, trial_digest

PROTOCOLS: dict[str, dict[str, Any]] = {"shared-base": {"shared_base": True}, "chf": {"chf": {}}}
"""Configuration fields that a protocol sets. Other protocols select between runs: they belong to studies."""


@dataclass(frozen=True)
class TrainRequest:
    """The arguments of `cl-search train`."""

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
        """Return the run. Raises BadRequest for what can be known without the data."""
        hp, recipe, data, rest = settings(self.sets)
        # Refuses values that have no digest, such as .inf.
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


def settings(sets: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return `key=value` texts as (hp, recipe, data, rest). Raises BadRequest for an unknown key."""
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
                f"--set {key.strip()!r}: a key must begin with hp., recipe. or data. (hp.kd_weight=3)"
            )
    return hp, recipe, data, rest
