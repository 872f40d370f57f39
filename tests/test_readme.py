"""Run the examples of the pages, of docstrings and of error messages: every one can be typed as it stands.

A page's commands are lines that begin with `cl-search`, indented by four spaces or in a fenced block.
A fenced block whose first line is a comment with a file name (`# derpp.py`, `# mine.yaml`) becomes that file.
Other `yaml` blocks are studies, or parts of one; other `python` blocks run one after the other.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

import cl_core
import search
from cl_core.yaml_text import read_yaml
from search.cli import app
from spaces.study.study_file import load_study, parse_study

ROOT = Path(__file__).parents[1]
PACKAGES = ("cl_core", "spaces", "search", "analysis")
NAMES = ("README.md", *(f"{package}/README.md" for package in PACKAGES))
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
COMMAND = typer.main.get_command(app)
VERBS = "|".join(COMMAND.commands)
FILE = re.compile(r"# (\S+\.(?:py|yaml))\s*\n")


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language, those that are files left out."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    return [text for text in found if not FILE.match(text)]


def files(page: str) -> dict[str, str]:
    """Return the fenced blocks of a page that are files: text by name."""
    found = re.findall(r"^```(?:python|yaml)\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    return {match[1]: text for text in found if (match := FILE.match(text))}


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words after each `cl-search` that begins a line; a backslash continues the line."""
    text = text.replace("\\\n", " ")
    lines = re.findall(r"^    (\S.*)", text, re.MULTILINE)
    for fenced in re.findall(r"^```(?:sh|bash|console|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines += fenced.splitlines()
    for line in lines:
        for part in line.split(" && "):
            if re.match(r"(\$ )?cl-search\b", part):
                words = shlex.split(part.removeprefix("$ "), comments=True)
                yield words[1 : words.index(">")] if ">" in words else words[1:]


def here(words: list[str]) -> list[str]:
    """Return the words with a local folder in place of one in an object store, which would have to answer."""
    return [word.replace("s3://", "") for word in words]


def parse(words: list[str]) -> None:
    """Read the words as the command line does, without doing anything."""
    words = here(words)
    with typer.Context(COMMAND, info_name="cl-search") as outer:
        _, verb, rest = COMMAND.resolve_command(outer, words)
        verb.make_context(words[0], list(rest), parent=outer)


COMMANDS = [(page, words) for page, text in PAGES.items() for words in commands(text)]


def of(*verbs: str) -> list[tuple[str, list[str]]]:
    """Return the commands of all pages with one of these verbs."""
    return [(page, words) for page, words in COMMANDS if words[:1] and words[0] in verbs]


def label(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value).split("\n", 1)[0]


def test_every_page_has_examples() -> None:
    assert len(of("run")) >= 2
    assert of("train")
    for page in PAGES:
        assert files(page) or blocks(page, "yaml") or blocks(page, "python") or list(commands(PAGES[page])), (
            page
        )


# Commands


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=label)
def test_the_command_line_knows_a_command_of_a_page(page: str, words: list[str]) -> None:
    parse(words)


def test_the_command_line_refuses_an_unknown_verb_or_option() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["run", "quickstart", "--quickly"])
    with pytest.raises(Exception, match="No such command"):
        parse(["walk", "quickstart"])


def mentioned(text: str) -> Iterator[list[str]]:
    """Yield the words after each `cl-search VERB` in sentences, docstrings, comments and error messages."""
    joined = re.sub(r"\\\n#?", " ", text)
    joined = re.sub(r"`cl-search[^`]+`", lambda code: code[0].replace("\n", " "), joined)
    for verb, rest in re.findall(rf"\bcl-search ({VERBS})\b([^`\"\n)|;>]*)", joined):
        # The example ends at a comma or full stop of the sentence, or at the quote around it.
        example = rest.rsplit("'", 1)[0] if rest.count("'") % 2 else rest
        words = shlex.split(example if "'" in example else re.split(r"[,:.](?: |$)", example)[0])
        if words:  # a verb alone is a mention
            yield [verb, *words]


def test_the_command_line_knows_the_commands_in_sentences_and_docstrings() -> None:
    paths = [p for name in PACKAGES for p in (ROOT / name).rglob("*") if p.suffix in (".py", ".yaml")]
    texts = [*PAGES.values(), CHANGELOG, *(path.read_text(encoding="utf-8") for path in paths)]
    found = [words for text in texts for words in mentioned(text)]
    for words in found:
        parse(words)
    assert len(found) > 20


SHOWN = {" ".join(w): w for text in PAGES.values() for w in mentioned(text) if w[0] in ("describe", "list")}


@pytest.mark.parametrize("words", SHOWN.values(), ids=label)
def test_a_part_that_a_page_describes_or_lists_is_there(words: list[str]) -> None:
    result = CliRunner().invoke(app, [word for word in words if word != "--own-code"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder of a reader who ran a few commands: two short runs, a model, a picture."""
    folder = tmp_path_factory.mktemp("used")
    small = ["data.per_class=20", "recipe.epochs=1", "methods=[finetune, lwf]", "search.trials=1"]
    search.run_study("quickstart", folder / "runs/quickstart", overrides=small, local=True)
    shutil.copytree(folder / "runs/quickstart", folder / "runs/other")
    train = "train --method lwf --data digits --scenario B0-5tasks --threads 1 --device cpu"
    short = ["--set", "recipe.epochs=1", "--set", "data.per_class=10"]
    saved = ["--save", str(folder / "model.safetensors")]
    assert CliRunner().invoke(app, [*train.split(), *short, *saved]).exit_code == 0
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "image.png")
    return folder


@pytest.fixture
def folder(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with the files of the page; the first study of the README is `study.yaml`."""
    studies = [text for text in blocks("README.md", "yaml") if "study" in read_yaml(text, "README.md")]
    for name, text in {"study.yaml": studies[0], **files(page)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def used_folder(folder: Path, used: Path) -> Path:
    """Work in such a folder where a few commands have run."""
    shutil.copytree(used, folder, dirs_exist_ok=True)
    return folder


def dry_run(words: list[str], data: dict[str, object]) -> str:
    """Return the dry run's output of a `run` with images of noise in place of the data."""
    instead = {"name": "synthetic", "root": "null", "download": "false", "per_class": 20, **data}
    settings = [*(f"data.{key}={value}" for key, value in instead.items()), "resources.gpu=0"]
    sets = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(app, [*here(words), *sets, "--dry-run"])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(("page", "words"), of("run"), ids=label)
def test_a_run_of_a_page_can_begin(page: str, words: list[str], folder: Path) -> None:
    if Path(words[1]).suffix and words[1] not in files(page):
        words = [words[0], "study.yaml", *words[2:]]
    if "--address" in words:  # no cluster listens there
        at = words.index("--address")
        words = [*words[:at], *words[at + 2 :]]
    many = words[1] == "study.yaml" or "data.name=cifar100" in words or words[1].startswith("published-")
    assert dry_run(words, {"classes": 100 if many else 10})


@pytest.mark.parametrize(("page", "words"), of("train"), ids=label)
def test_a_training_of_a_page_runs(page: str, words: list[str], used_folder: Path) -> None:
    short = ["--set", "recipe.epochs=1", "--set", "data.per_class=10", "--threads", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, [*words, *short])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("page", "words"), of("check"), ids=label)
def test_a_part_of_a_page_keeps_its_contracts(page: str, words: list[str], used_folder: Path) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output


# Studies


STUDIES = [(page, text) for page in PAGES for text in blocks(page, "yaml")]
STUDIES += [(page, text) for page in PAGES for name, text in files(page).items() if name.endswith(".yaml")]
WHOLE = [(page, text) for page, text in STUDIES if "study" in read_yaml(text, page)]
PARTS = [item for item in STUDIES if item not in WHOLE]


@pytest.mark.parametrize(("page", "text"), WHOLE, ids=label)
def test_a_study_of_a_page_is_a_study(page: str, text: str, folder: Path) -> None:
    (folder / "this.yaml").write_text(text, encoding="utf-8")
    study = load_study("this.yaml")
    classes = 100 if study.data.name == "cifar100" else 10
    shown = dry_run(["run", "this.yaml", "--own-code"], {"classes": classes})
    assert all(label in shown for label in study.methods)
    assert all(scenario.name in shown for scenario in study.on(classes).specs())


@pytest.mark.parametrize(("page", "text"), PARTS, ids=label)
def test_a_part_of_a_study_fits_in_one(page: str, text: str) -> None:
    around = {"study": "part", "data": "digits", "scenarios": ["B0-5tasks"], "methods": ["lwf"]}
    parse_study({**around, **read_yaml(text, page)})


# Python


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_python_of_a_page_runs(
    page: str, used_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, run_study = cl_core.run, search.run_study
    small = ["data.per_class=20", "recipe.epochs=1", "methods=[finetune, lwf]", "search.trials=1"]

    def one_epoch(*arguments: object, **more: object) -> object:
        return run(*arguments, **{**more, "recipe": {"epochs": 1}, "threads": 1, "device": "cpu"})

    def reduced(study: str, *arguments: object, **more: object) -> object:
        return run_study(study, *arguments, **{**more, "overrides": small, "local": True})

    monkeypatch.setattr(cl_core, "run", one_epoch)
    monkeypatch.setattr(search, "run_study", reduced)
    names: dict[str, object] = {}
    for text in blocks(page, "python"):
        exec(compile(text, page, "exec"), names)
    if page == "README.md":
        assert re.match(r"0\.\d+ \[\[", capsys.readouterr().out)
        scenarios = yaml.safe_load((used_folder / "runs/quickstart/study.yaml").read_text())["scenarios"]
        assert len(names["runs"]) == 2 * len(scenarios)
