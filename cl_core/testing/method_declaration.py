"""The contracts of a method's declaration and of its hyperparameters."""

from __future__ import annotations

from typing import Any

from cl_core.contract import contracts_of
from cl_core.errors import BadRequest
from cl_core.hparams import Float, Value, hparams
from cl_core.method import METHODS, Method
from cl_core.testing import small


def it_is_stateless(method: str) -> None:
    made = METHODS[method]({})
    assert vars(made) == {"hp": made.hp}, "a method holds its hyperparameters alone"
    try:
        made.count = 1
    except AttributeError:
        return
    raise AssertionError("an attribute can be set: what a run changes belongs into State")


def it_derives_from_method_alone(method: str) -> None:
    assert METHODS[method].__bases__ == (Method,), "what methods share are plain functions"


def it_says_what_it_is_and_where_it_comes_from(method: str) -> None:
    cls = METHODS[method]
    assert ":" in method or cls.name == method, f"its name is {cls.name!r}"
    for field in ("title", "paper", "equation", "paradigm", "level", "kind"):
        assert getattr(cls, field).strip(), f"{field} is empty"
    assert cls.__doc__, "it has no docstring"


def its_hyperparameters_have_a_doc_and_a_default_in_their_domain(method: str) -> None:
    known = hparams(METHODS[method].HP)
    for name, param in known.items():
        checked = param.domain.check(name, param.default)
        assert checked == param.default, f"{name}: the default is outside {param.domain}"
        assert type(checked) is param.type, f"{name}: the default is no {type(checked).__name__}"
        assert param.doc, f"{name} needs a doc"
        assert param.acts_from in (0, 1, 2), f"{name}: acts_from is 0, 1 or 2"
        for other, allowed in param.when.items():
            domain = known[other].domain
            assert all(domain.check(other, value) == value for value in allowed), f"{name}: when {other}"
        if param.stability:
            assert isinstance(param.domain, Float), f"{name}: stability is relaxed by factors"


def it_refuses_an_unknown_hyperparameter_in_one_line(method: str) -> None:
    said = ""
    try:
        METHODS[method]({"no_such_thing": 1})
    except BadRequest as error:
        said = str(error)
    assert "no_such_thing" in said, "it takes a hyperparameter that it does not have"
    assert "\n" not in said


def a_hyperparameter_changes_nothing_before_the_task_it_acts_from(method: str) -> None:
    for name, param in hparams(METHODS[method].HP).items():
        base, others = small.pair(method, name)
        assert others, f"{name} has one value alone"
        for other in others:
            a, b = small.run(method, base), small.run(method, other)
            for t in range(param.acts_from):
                same = a.traces[t]["evaluations"] == b.traces[t]["evaluations"] and _trained_alike(a, b, t)
                assert same, f"{name}: {other[name]!r} acts on task {t}, before {param.acts_from}"
            if param.answers:  # never any training
                assert [r.network for r in a.results] == [r.network for r in b.results], f"{name} trains"
                assert [r.phases for r in a.results] == [r.phases for r in b.results], f"{name} trains"
            if param.at_boundary:  # never the training of the task at whose end it acts
                assert _trained_alike(a, b, 0), f"{name} is not at_boundary"


def _trained_alike(a: small.Run, b: small.Run, task: int) -> bool:
    one, other = a.results[task], b.results[task]
    same = small.training_phases(one) == small.training_phases(other)
    return same and one.network == other.network


def a_hyperparameter_changes_network_or_scores_in_the_task_it_acts_from(method: str) -> None:
    for name, param in hparams(METHODS[method].HP).items():
        base, others = small.pair(method, name)
        before = small.run(method, base).traces[param.acts_from]
        after = [small.run(method, other).traces[param.acts_from] for other in others]
        parts = ("network", "evaluations")
        assert any(a[part] != before[part] for a in after for part in parts), f"{name} changes nothing there"


def a_hyperparameter_outside_its_branch_changes_nothing(method: str) -> None:
    for name, param in hparams(METHODS[method].HP).items():
        now = small.full_hp(method)
        for value in [] if param.active(now) else small.other_values(param, now[name]):
            assert small.run(method, {name: value}).traces == small.run(method).traces, f"{name} = {value!r}"


def the_base_family_follows_what_acts_on_the_training_of_the_first_task(method: str) -> None:
    def family(hp: dict[str, Value]) -> Any:
        found = METHODS[method](small.hp_of(method, **hp)).base()
        return found.key(), dict(found.recipe)

    for name, param in hparams(METHODS[method].HP).items():
        base, others = small.pair(method, name)
        for other in others:
            acts = param.acts_from == 0 and not param.at_boundary
            rule = f"{name} acts from task {param.acts_from}, so it must {'' if acts else 'not '}be in base()"
            assert (family(base) != family(other)) == acts, rule


DECLARATION_CONTRACTS = contracts_of(globals())
