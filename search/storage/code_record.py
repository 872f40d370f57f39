"""The code that a folder's runs were begun with: `code.json`. What has changed since is named, and not mixed
in unless that is accepted.

The row of every run has the digest of the code that trained it in its column `code`; this file has the files
behind the newest of them, so that a change can be named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_core.aside import aside
from cl_core.errors import BadRequest
from cl_core.training.code import code_digest, code_of, versions
from cl_core.training.weights import file_digest
from spaces.resolved.environment import now

if TYPE_CHECKING:
    from spaces.resolved.study import ResolvedStudy

CODE = "code.json"
ACCEPT = "use another --out, or go on with --accept-code, which notes the code of each run"
NAMED = 3  # changed files that a message lists


@dataclass(frozen=True)
class Code:
    """Files that decide numbers, by name, with their digests; versions of what they run on. `accepted` has
    what changed in a folder and when."""

    files: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=versions)
    accepted: Sequence[Mapping[str, Any]] = ()

    def changed_since(self, before: Code) -> list[str]:
        """What is not as it was, each in a few words. Files that only one side has are left out: one that
        matters is imported by another, which has changed then."""
        old, new = before.versions, self.versions
        out = [
            f"{name} {old[name]} became {new[name]}" for name in new if old.get(name, new[name]) != new[name]
        ]
        files = [
            name
            for name in sorted(self.files)
            if before.files.get(name, self.files[name]) != self.files[name]
        ]
        if files:
            more = f" and {len(files) - NAMED} more files" if len(files) > NAMED else ""
            out.append(f"{', '.join(files[:NAMED])}{more} changed")
        return out


def code_of_study(study: ResolvedStudy) -> Code:
    """The code, as it is here, of every run that a study may make; with the weights and class orders that
    it reads from files."""
    data = {study.study.tuning_data.name, study.study.judging_data.name}
    files: dict[str, str] = {}
    for cell in study.cells:
        for net in cell.nets(study.data):
            for name in data:
                files |= code_of(cell.method, net, name)
        for path in (cell.init, *(order for order, _ in study.runs(cell))):
            if path is not None and Path(path).expanduser().is_file():
                files[path] = file_digest(path)
    return Code(files)


def read_code(folder: Path) -> Code | None:
    """What the folder was begun with; None where it says nothing. Raises BadRequest when it is damaged."""
    path = folder / CODE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return Code(dict(plain["files"]), dict(plain["versions"]), list(plain["accepted"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadRequest(f"{path} is damaged ({type(error).__name__}): restore it from a copy") from None


def changes(folder: Path, code: Code) -> list[str]:
    """What has changed since the folder's newest runs, each in a few words; nothing where it is new."""
    before = read_code(folder)
    return [] if before is None else code.changed_since(before)


def check_code(folder: Path, code: Code, accept: bool, remedy: str) -> list[str]:
    """What is to be said of changes that are accepted. Raises BadRequest where they are not."""
    found = changes(folder, code)
    if found and not accept:
        raise BadRequest(
            f"{'; '.join(found)} since the runs in {folder}, and their numbers would be mixed: {remedy}"
        )
    return [f"{change}: what is trained now is by the new code" for change in found]


def write_code(folder: Path, code: Code) -> None:
    """Note what the next runs are trained with; what the file held of other methods stays."""
    before = read_code(folder) or Code({})
    found = code.changed_since(before)
    accepted = [*before.accepted, *([{"time": now(), "changed": found}] if found else [])]
    plain = {"files": {**before.files, **code.files}, "versions": code.versions, "accepted": accepted}
    if plain != {"files": before.files, "versions": before.versions, "accepted": before.accepted}:
        with aside(folder / CODE) as hidden:
            hidden.write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def by_other_code(study: ResolvedStudy, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """How many of a study's runs were trained by other code than stands here, as a line; else nothing."""
    data = {"final": study.study.judging_data.name}
    here: dict[tuple[str, str, str], str] = {}
    other = known = 0
    for row in rows:
        if not row.get("code"):  # of a run that failed before it began
            continue
        run = (row["method"], row["net"], data.get(row["purpose"], study.study.tuning_data.name))
        if run not in here:
            try:
                here[run] = code_digest(*run)
            except BadRequest:  # it is not here any more, or may not be imported
                here[run] = ""
        known += 1
        other += row["code"] != here[run]
    return (
        [f"{other} of {known} runs that have ended were trained by other code than stands here"]
        if other
        else []
    )


def told_of_run(folder: Path, row: Mapping[str, Any], data: str) -> list[str]:
    """Whether a recorded run on a data set was trained by other code than stands here, as a note that names
    the files."""
    run = (row["method"], row["net"], data)
    if row.get("code") in (None, code_digest(*run)):
        return []
    before = read_code(folder) or Code({})
    told = [*(text for entry in before.accepted for text in entry["changed"])]
    told += Code(code_of(*run)).changed_since(before)
    named = f": {'; '.join(told)}" if told else ""
    return [f"note: {row['run']} was trained by other code than stands here{named}"]
