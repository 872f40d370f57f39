"""Each contract of a method finds the fault that it is there for, also in a method of another package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cl_core.contract import outcomes
from cl_core.testing import METHOD_CONTRACTS, check_method
from search.cli import app

CODE = '''
import torch
from dataclasses import dataclass
from torch.nn import functional as F
from cl_core.hparams import Float, hp
from cl_core.method import Method, Phase, Rows
from cl_core.task import Term

class Plain:
    """Cross-entropy."""
    name, title, paper, equation = "own", "Own", "none", "CE"
    paradigm, level, kind = "baseline", "none", "none"
    memories = ()

    @dataclass(frozen=True)
    class HP:
        """One hyperparameter."""
        smoothing: float = hp(0.1, Float(0.0, 0.5), doc="of the labels, from the second task on")

    def loss(self, s, b, task):
        e = self.hp.smoothing if task.index else 0.0
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y, label_smoothing=e))}

def method(cls):
    own = {**vars(Plain), **vars(cls), "__doc__": "A method."}
    own = {name: value for name, value in own.items() if name not in ("__dict__", "__weakref__")}
    return type(cls.__name__, (Method,), own)

@method
class Good: pass

@method
class Draws:
    def loss(self, s, b, task):
        x = b.x + 0.1 * torch.randn(b.x.shape)
        e = self.hp.smoothing if task.index else 0.0
        return {"ce": Term(F.cross_entropy(s.net(x).logits, b.y, label_smoothing=e))}

@method
class ActsTooEarly:
    def loss(self, s, b, task):
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y, label_smoothing=self.hp.smoothing))}

@method
class NeverActs:
    def loss(self, s, b, task):
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y))}

@method
class ReadsOldImages:
    def phases(self, s, task, data, g):
        yield Phase("train", (Rows(data.rows(range(task.seen))),), task.recipe, self.loss)

@method
class ForgetsOverABoundary:
    def end(self, s, task, data, g):
        s.counted = getattr(s, "counted", 0) + 1
    def scores(self, s, x, task):
        return {"head": s.net(x).logits * (1 + getattr(s, "counted", 0))}

@method
class AnswersFromWhatItDoesNotSave:
    answers_with = ()
    def end(self, s, task, data, g):
        s.kept["scale"] = torch.tensor(2.0)
    def scores(self, s, x, task):
        return {"head": s.net(x).logits * s.kept["scale"]}

@method
class ScoresUnseenClasses:
    def scores(self, s, x, task):
        return {"head": F.pad(s.net(x).logits, (0, 1))}
'''
FOUND = {
    "Draws": "every loss is deterministic and draws nothing",
    "ActsTooEarly": "a hyperparameter changes nothing before the task it acts from",
    "NeverActs": "a hyperparameter changes network or scores in the task it acts from",
    "ReadsOldImages": "pixels outside the task and memory do not matter unless it restarts",
    "ForgetsOverABoundary": "a run resumed after any task equals the straight one",
    "AnswersFromWhatItDoesNotSave": "a saved model gives the scores of the training",
    "ScoresUnseenClasses": "scores cover the seen classes and the primary rule is among them",
}


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted_methods.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "planted_methods", raising=False)


def test_a_sound_method_of_another_package_keeps_every_contract() -> None:
    check_method("planted_methods:Good")


@pytest.mark.parametrize("name", FOUND)
def test_a_planted_fault_is_found_by_its_contract(name: str) -> None:
    broken = [o.sentence for o in outcomes(METHOD_CONTRACTS, f"planted_methods:{name}") if o.trouble]
    assert FOUND[name] in broken


def test_check_prints_a_line_for_each_contract_and_ends_with_1_where_one_is_broken() -> None:
    result = CliRunner().invoke(app, ["check", "planted_methods:NeverActs"])
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == len(METHOD_CONTRACTS)
    (broken,) = [line for line in lines if not line.startswith("ok      ")]
    assert broken.startswith(f"BROKEN  {FOUND['NeverActs']}: ")
    assert broken.endswith("AssertionError: smoothing changes nothing there")
    broken_of = f"breaks 1 of {len(METHOD_CONTRACTS)} contracts"
    assert result.stderr == f"error: planted_methods:NeverActs {broken_of}: mend it, and check again\n"
    named = CliRunner().invoke(app, ["check", "digits"])
    assert named.exit_code == 0, named.output
    view = CliRunner().invoke(app, ["check", "leaderboard"])
    assert view.exit_code == 2
    assert "name its folder, as in --run runs/quickstart" in view.stderr
