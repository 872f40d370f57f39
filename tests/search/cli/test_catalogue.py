"""Tests of list, describe and completion: methods, presets, verbs, versions and data."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from cl_core.hparams import hparams
from cl_core.method import METHODS
from search.cli import app, complete
from search.commands.listing import KINDS, listing
from spaces.study.study_file import load_study
from tests import methods_table
from tests.search.terminal import call

PARADIGMS = ["baseline", "regularisation", "data replay", "generated data", "feature replay", "architecture"]


def test_what_there_is_can_be_listed_and_described() -> None:
    assert "quickstart" in call("list", "presets").stdout
    shown = call("describe", "lwf").stdout
    for part in ("paradigm: regularisation", "kd_weight", "0.25", "[0.02, 8] log"):
        assert part in shown
    card = json.loads(call("describe", "icarl", "--json").stdout)
    assert card["hyperparameters"]["loss"]["acts from"] == 0
    assert (card["base family"], card["last relu"]) == ("sigmoid", False)
    assert card["base recipe"] == card["increment recipe"] == {"lr": 0.02, "weight_decay": 0.002}
    assert "search.objective" in call("describe", "study").stdout


def test_methods_are_listed_with_their_taxonomy_by_paradigm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.cli.printing.terminal", lambda: Console(width=1000))
    cards = json.loads(call("list", "methods", "--json").stdout)
    assert set(cards) == set(METHODS)
    paradigms = [card["paradigm"] for card in cards.values()]
    assert paradigms == sorted(paradigms, key=PARADIGMS.index)
    lines = [line.rstrip() for line in call("list", "methods").stdout.splitlines()]
    assert [line for line in lines if line in PARADIGMS] == PARADIGMS
    rows = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert list(rows) == list(cards)
    for name, card in cards.items():
        assert list(card) == ["title", "paradigm", "level", "kind", "base family", "paper"]
        assert all(card[key] in rows[name] for key in card if key != "paradigm")


@pytest.mark.parametrize("name", METHODS.names())
def test_a_method_is_described_whole(name: str) -> None:
    shown = call("describe", name).stdout
    card = json.loads(call("describe", name, "--json").stdout)
    made = METHODS[name]()
    for key in ("paper", "equation", "paradigm", "level", "kind", "base family", "head", "classifier"):
        assert card[key], key
        assert f"{key}: {card[key]}\n" in shown
    assert card["side heads"] == dict(made.base().side_heads)
    assert card["base parameters"] == dict(made.base().parameters)
    assert card["base recipe"] == dict(made.base().recipe)
    if not made.restarts:
        assert card["increment recipe"] == dict(made.recipe())
    for title, values in (("side heads", "none"), ("base recipe", "as the data set's")):
        said = ", ".join(f"{key} {value}" for key, value in card[title].items()) or values
        assert f"{title}: {said}\n" in shown
    assert list(card["hyperparameters"]) == list(hparams(METHODS[name].HP))
    flat = " ".join(shown.split())
    for key, param in card["hyperparameters"].items():
        searched = ", searched" if param["searched"] else ""
        boundary = ", its end" if param["at boundary"] else ""
        acts = f"task {param['acts from']}{boundary}"
        assert f"{key} {param['default']} {acts} {param['domain']}{searched} " in flat
        if param["when"]:
            assert f"when {param['when']}" in flat


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_methods_without_a_word_broken(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    def narrow() -> Console:
        return Console(width=width)

    monkeypatch.setattr("search.cli.printing.terminal", narrow)
    for arguments in (("list", "methods"), *(("describe", name) for name in METHODS)):
        wide = json.loads(call(*arguments, "--json").stdout)
        shown = call(*arguments).stdout
        assert max(map(len, shown.splitlines())) <= width
        cards = wide.values() if arguments[0] == "list" else [wide]
        for card in cards:
            words = " ".join(card[key] for key in ("title", "level", "kind", "base family", "paper")).split()
            assert {word for word in words if len(word) <= 20} <= set(shown.split())  # a path may break


def test_a_preset_is_described_by_its_file(tmp_path: Path) -> None:
    shown = call("describe", "survey-methods").stdout
    (tmp_path / "mine.yaml").write_text(shown)
    assert load_study(tmp_path / "mine.yaml") == load_study("survey-methods")
    assert shown.startswith("# ")
    assert json.loads(call("describe", "quickstart", "--json").stdout)["search"]["trials"] == 6


def test_the_readme_shows_the_methods_as_they_are() -> None:
    assert methods_table.written() == methods_table.table(), "renew it: python -m tests.methods_table --write"


def test_the_stored_cards_are_those_of_the_methods() -> None:
    stored = methods_table.CARDS.read_text(encoding="utf-8")
    assert stored == methods_table.cards(), "renew them: python -m tests.methods_table --write"


def test_methods_answer_themselves_where_one_is_added(tmp_path: Path) -> None:
    package = tmp_path / "own-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[cl_search.method]\nderpp = tests.derpp:DERpp\n")
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "from search.commands.stored_cards import stored_cards\n"
        "print(stored_cards() is None, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_the_doctor_sees_versions_and_data(tmp_path: Path) -> None:
    result = call("doctor", "--json", "--root", tmp_path, "--out", tmp_path)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["data"]["digits"]["found"] is True
    assert found["data"]["cifar100"]["found"] is False
    assert found["storage"]["writable"] is True
    assert found["versions"]["torch"]


def test_help_comes_without_the_heavy_imports() -> None:
    code = (
        "import sys, search.cli; print([m for m in ('torch', 'ray', 'optuna', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("run qu", ["quickstart"]),
        ("describe lwf", ["lwf"]),
        ("list meth", ["methods"]),
        ("status ", ["runs/one"]),
        ("report ru", ["runs/one"]),
        ("compare runs/one runs/", ["runs/one"]),
    ],
)
def test_the_shell_completes_names_and_folders_of_runs(
    words: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "study.yaml").touch()
    monkeypatch.chdir(tmp_path)
    line = f"cl-search {words}"
    asked = {"_CL_SEARCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = CliRunner().invoke(app, [], env=asked, prog_name="cl-search")
    assert done.stdout.split() == found


def test_the_shell_asks_no_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("search.cli.parser.run_folder", asked.append)
    line = "cl-search logs s3://bucket/x "
    words = {"_CL_SEARCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"}
    CliRunner().invoke(app, [], env=words, prog_name="cl-search")
    assert not asked


def test_the_page_of_the_search_has_every_verb() -> None:
    page = (Path(__file__).parents[3] / "search" / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"`([a-z]+)[^`]*`", page.split("| verb | does |")[1].split("\n\n")[0])
    assert set(typer.main.get_command(app).commands) <= set(shown)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_everything_listed_has_a_sentence(kind: str) -> None:
    items = listing(kind)
    assert items
    assert [name for name, text in items.items() if not text] == []


def test_completion_offers_every_method_by_its_name() -> None:
    assert complete.methods("") == sorted(METHODS)
    assert complete.methods("pas") == ["pass"]
