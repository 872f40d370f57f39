"""The code record: `code.json` has the code of a folder's runs, so that a change is named before numbers mix.

The column `code` of the table `runs` has the digest of the code of each run. This file lists the source files
behind the newest digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lake.run_folder import CODE
from cl_core.aside import aside
from cl_core.errors import BadRequest
from cl_core.training.code import code_digest, code_of, versions
from cl_core.training.weights import file_digest
from spaces.resolved.environment import commit, now

ACCEPT = "use another --out, or continue with --accept-code, which notes the code of each run"
if TYPE_CHECKING:
    from spaces.resolved.study import ResolvedStudy

LISTED = 3  # changed files that a message lists


@dataclass(frozen=True)
class Code:
    """The digests of the files that decide numbers, and versions. `accepted` lists earlier changes."""

    files: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=versions)
    accepted: Sequence[Mapping[str, Any]] = ()
    commit: str = ""  # of the folder where the command was given: see `environment.commit`

    def changed_since(self, before: Code) -> list[str]:
        """Return the changes since `before`, each in a few words.

        A file that only one side has is left out: if it matters, a file that imports it has changed too.
        """
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
            more = f" and {len(files) - LISTED} more files" if len(files) > LISTED else ""
            out.append(f"{', '.join(files[:LISTED])}{more} changed")
        return out


def code_of_study(study: ResolvedStudy) -> Code:
    """Return the code of every run of a study, with the weights and class orders that it reads from files."""
    data = {study.study.tuning_data.name, study.study.judging_data.name}
    files = code_of(
        *((cell.method, net, name) for cell in study.cells for net in cell.nets(study.data) for name in data)
    )
    for cell in study.cells:
        for path in (cell.init, *(order for order, _ in study.runs(cell))):
            if path is not None and Path(path).expanduser().is_file():
                files[path] = file_digest(path)
    return Code(files)


def read_code(folder: Path) -> Code | None:
    """Read the code record of a folder; None if there is none. Raises BadRequest if it is damaged."""
    path = folder / CODE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return Code(
            dict(plain["files"]),
            dict(plain["versions"]),
            list(plain["accepted"]),
            str(plain.get("commit", "")),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadRequest(f"{path} is damaged ({type(error).__name__}): restore it from a copy") from None


def changes(folder: Path, code: Code) -> list[str]:
    """Return the changes since the folder's newest runs, each in a few words; none in a new folder."""
    before = read_code(folder)
    return [] if before is None else code.changed_since(before)


def check_code(folder: Path, code: Code, accept: bool, remedy: str) -> list[str]:
    """Return notes on changes that are accepted. Raises BadRequest if they are not."""
    found = changes(folder, code)
    if found and not accept:
        raise BadRequest(
            f"{'; '.join(found)} since the runs in {folder}, so numbers of two codes would mix: {remedy}"
        )
    return [f"{change}: runs train with the new code from now on" for change in found]


def write_code(folder: Path, code: Code) -> None:
    """Write the code of the next runs. Entries of other methods stay."""
    before = read_code(folder) or Code({})
    found = code.changed_since(before)
    accepted = [*before.accepted, *([{"time": now(), "changed": found}] if found else [])]
    now_here = Code({**before.files, **code.files}, code.versions, accepted, commit())
    if now_here != before:
        plain = asdict(now_here)
        with aside(folder / CODE) as hidden:
            hidden.write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def by_other_code(study: ResolvedStudy, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a note with the number of runs that other code trained; nothing if there is none."""
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
        [f"{other} of {known} runs that have ended were trained by other code than is here"] if other else []
    )


def note_on_run(folder: Path, row: Mapping[str, Any], data: str) -> list[str]:
    """Return a note that names the changed files if other code trained a run on a data set."""
    run = (row["method"], row["net"], data)
    if row.get("code") in (None, code_digest(*run)):
        return []
    before = read_code(folder) or Code({})
    found = [*(text for entry in before.accepted for text in entry["changed"])]
    found += Code(code_of(run)).changed_since(before)
    named = f": {'; '.join(found)}" if found else ""
    return [f"note: {row['run']} was trained by other code than is here{named}"]
