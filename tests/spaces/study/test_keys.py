"""The list of keys: complete, described, and the one that the page of spaces shows."""

from __future__ import annotations

from pathlib import Path

from cl_core.hparams import hparams
from cl_core.recipe import Recipe
from spaces.study.keys import study_keys

PAGE = Path(__file__).parents[3] / "spaces" / "README.md"


def markdown() -> str:
    """Return the keys as the table that the page shows."""
    head = "| key | type | default | meaning |\n|---|---|---|---|\n"
    rows = (
        f"| `{key['key']}` | {_cell(key['type'])} | {_cell(key['default'])} | {_cell(key['description'])} |\n"
        for key in study_keys()
    )
    return head + "".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def test_every_key_of_the_study_file_has_type_default_and_meaning() -> None:
    keys = {key["key"]: key for key in study_keys()}
    recipe = {key for key in keys if key.startswith("recipe.")}
    assert recipe == {f"recipe.{name}" for name in hparams(Recipe)}
    assert keys["search.trials"]["type"] == "integer ≥ 1, ≤ 1,000,000"
    assert keys["search.trials"]["default"] == "20"
    assert keys["study"]["default"] == "required"
    assert keys["recipe.last_batch"]["type"] == "{keep, complete, drop}"
    assert keys["search.sampler_args.population_size"]["description"].startswith("nsga2: ")
    assert "methods.<label>.<hyperparameter>" in keys
    assert [name for name, key in keys.items() if not key["description"]] == []


def test_the_page_of_spaces_shows_every_key_as_the_model_has_it() -> None:
    shown = PAGE.read_text(encoding="utf-8").split("<!-- keys -->\n")[1].split("<!-- /keys -->")[0]
    assert shown == markdown()
