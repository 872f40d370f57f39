"""The examples of the README, of docstrings and of remedies: what is written there can be typed.

They are run as they stand, on data that needs no files, and with as little training as shows it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

import cl_core
import search
from search.cli import app
from spaces.study.study_file import load_study

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
COMMAND = typer.main.get_command(app)
VERBS = "|".join(COMMAND.commands)


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """The words behind every `cl-search` of indented lines, joined where they are continued."""
    for line in re.findall(r"^    (\S.*)", text.replace("\\\n", " "), re.MULTILINE):
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            if words[:1] == ["cl-search"]:
                yield words[1 : words.index(">")] if ">" in words else words[1:]


def parse(words: list[str]) -> None:
    """Read the words as the command line does, without doing anything."""
    with typer.Context(COMMAND, info_name="cl-search") as outer:
        _, verb, rest = COMMAND.resolve_command(outer, words)
        verb.make_context(words[0], list(rest), parent=outer)


INDENTED = list(commands(README))


def test_there_are_examples() -> None:
    assert len(INDENTED) >= 7
    assert {words[0] for words in INDENTED} >= {"run", "train"}
    assert len(blocks("yaml")) >= 2
    assert len(blocks("python")) >= 1


@pytest.mark.parametrize("words", INDENTED, ids=" ".join)
def test_an_indented_command_is_one_that_the_command_line_knows(words: list[str]) -> None:
    parse(words)


def test_a_command_with_an_unknown_option_would_be_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["run", "quickstart", "--quickly"])
    with pytest.raises(Exception, match="No such command"):
        parse(["walk", "quickstart"])


def mentioned(text: str) -> Iterator[list[str]]:
    """The words behind every `cl-search VERB` in sentences, docstrings, comments and remedies."""
    joined = re.sub(r"\\\n#?", " ", text)
    joined = re.sub(r"`cl-search[^`]+`", lambda code: code[0].replace("\n", " "), joined)
    for verb, rest in re.findall(rf"\bcl-search ({VERBS})\b([^`\"\n)|;>]*)", joined):
        # The sentence goes on behind a comma, or behind the quote that the example stands in.
        example = rest.rsplit("'", 1)[0] if rest.count("'") % 2 else rest
        words = shlex.split(example if "'" in example else re.split(r"[,:.](?: |$)", example)[0])
        if words:  # a verb alone is a mention
            yield [verb, *words]


def test_commands_in_sentences_docstrings_and_remedies_are_known_too() -> None:
    packages = ("cl_core", "spaces", "search", "analysis")
    paths = [p for name in packages for p in (ROOT / name).rglob("*") if p.suffix in (".py", ".yaml")]
    texts = [README, CHANGELOG, *(path.read_text(encoding="utf-8") for path in paths)]
    found = [words for text in texts for words in mentioned(text)]
    for words in found:
        parse(words)
    assert len(found) > 20


@pytest.mark.parametrize(
    "words", [w for w in mentioned(README) if w[0] in ("describe", "list")], ids=" ".join
)
def test_what_the_readme_says_is_described_or_listed_is(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert result.stdout.strip()


# Studies


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type in, with the first study of the README as its study.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    return tmp_path


def planned(words: list[str], data: dict[str, object]) -> str:
    """What the dry run of `cl-search run` prints with images of noise in place of the data."""
    instead = {"name": "synthetic", "root": "null", "download": "false", "per_class": 20, **data}
    settings = [*(f"data.{key}={value}" for key, value in instead.items()), "resources.gpu=0"]
    sets = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(app, [*words, *sets, "--dry-run"])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("text", blocks("yaml"), ids=lambda text: yaml.safe_load(text)["study"])
def test_a_study_of_the_readme_is_a_study(text: str, at_home: Path) -> None:
    (at_home / "mine.yaml").write_text(text, encoding="utf-8")
    study = load_study("mine.yaml")
    classes = 100 if study.data.name == "cifar100" else 10
    said = planned(["run", "mine.yaml"], {"classes": classes})
    assert all(label in said for label in study.methods)
    assert all(scenario.name in said for scenario in study.on(classes).specs())


@pytest.mark.parametrize("words", [w for w in INDENTED if w[0] == "run"], ids=" ".join)
def test_a_run_of_the_readme_can_begin(words: list[str], at_home: Path) -> None:
    many = "study.yaml" in words or "data.name=cifar100" in words
    assert planned(words, {"classes": 100 if many else 10})


@pytest.mark.parametrize("words", [w for w in INDENTED if w[0] == "train"], ids=" ".join)
def test_a_trial_of_the_readme_runs(words: list[str], at_home: Path) -> None:
    short = ["--set", "recipe.epochs=1", "--set", "data.per_class=10", "--threads", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, [*words, *short])
    assert result.exit_code == 0, result.output


# Python


@pytest.mark.parametrize("text", blocks("python"))
def test_python_of_the_readme_runs(
    text: str, at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, run_study = cl_core.run, search.run_study
    small = ["data.per_class=20", "recipe.epochs=1", "methods=[finetune, lwf]", "search.trials=1"]

    def briefly(*arguments: object, **more: object) -> object:
        return run(*arguments, **more, recipe={"epochs": 1}, threads=1, device="cpu")

    def reduced(study: str) -> object:
        return run_study(study, overrides=small, local=True)

    monkeypatch.setattr(cl_core, "run", briefly)
    monkeypatch.setattr(search, "run_study", reduced)
    names: dict[str, object] = {}
    exec(compile(text, "README.md", "exec"), names)
    assert re.match(r"0\.\d+ \[\[", capsys.readouterr().out)
    scenarios = yaml.safe_load((at_home / "runs/quickstart/study.yaml").read_text())["scenarios"]
    assert len(names["runs"]) == 2 * len(scenarios)
