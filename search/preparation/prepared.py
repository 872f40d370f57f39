"""A study checked against its data, its folder and the machine, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.lake.run_folder import CHECKPOINTS, CODE, PACKING, PLAN, STUDY
from cl_core.errors import BadRequest
from cl_core.own_code import only, references
from search.backends.allocation import Allocation, allocate, keep_device, random_search_notes
from search.backends.cluster_nodes import cluster_nodes
from search.cells.cell_progress import read_learnt
from search.cells.search_queue import Known
from search.cells.warm_start import left_out, observations
from search.jobs.spending import check_budget
from search.preparation.kept_packing import kept_packing
from search.remote.working_copy import checkpoint_folder, run_folder
from search.storage.code_record import ACCEPT, Code, changes, check_code, code_of_study
from search.storage.places import check_writable
from search.storage.studies import check_storage
from search.worker.runner import cached_data
from spaces.resolved.checks import check_judged
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.resolved.warnings import notes_of, warnings_of
from spaces.study.study import Study
from spaces.study.study_file import existing_study, load_study, standing_study


@dataclass(frozen=True)
class Prepared:
    """A checked study, with what the folder and the machine decide about it."""

    study: ResolvedStudy
    folder: Path
    checkpoints: Path
    allocation: Allocation
    known: Known  # trials of other runs that the search starts from and its cells have not learnt yet
    code: Code  # that decides numbers
    notes: Sequence[str] = ()  # on how the folder is continued
    before: str = ""  # `state_of` the folder when it was checked

    @property
    def warnings(self) -> list[str]:
        """Notes on images and code, and valid settings that are probably not intended; one line each."""
        out = [*notes_of(self.study.data), *self.notes, *warnings_of(self.study)]
        out += random_search_notes(self.study, self.allocation.concurrent)
        for source in self.known:
            theirs = changes(Path(source).expanduser(), self.code)
            out += [f"search.start_from {source} was found with other code: {change}" for change in theirs]
        return out + [line for source in self.known for line in left_out(source, self.known[source])]

    @property
    def labels(self) -> Sequence[str]:
        """Lines that must stand wherever the study's numbers are shown."""
        label = self.study.study.protocol.label
        return [label] if label else []

    @property
    def current(self) -> bool:
        """Tell whether the folder's study and code are still those that were checked."""
        return self.before == state_of(self.folder)


def prepare(
    study: str | Path | Mapping[str, object] | Study,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    trials_more: int = 0,
    local: bool = False,
    own_code: bool = False,
    accept_code: bool = False,
) -> Prepared:
    """Check everything that can be checked before work; leave nothing behind. Raises BadRequest."""
    with only(permitted(study, overrides, own_code)):
        return _prepare(study, out, overrides, trials_more, local, accept_code)


def permitted(
    study: str | Path | Mapping[str, object] | Study, overrides: Sequence[str], own_code: bool
) -> list[str] | None:
    """Return the code that a call may import; None for all.

    What a mapping, a `Study` or an override names is the caller's own.
    """
    given = () if isinstance(study, str | Path) else (study,)
    return None if own_code else references(*given, *overrides)


def _prepare(
    study: str | Path | Mapping[str, object] | Study,
    out: str | Path | None,
    overrides: Sequence[str],
    trials_more: int,
    local: bool,
    accept_code: bool,
) -> Prepared:
    asked = study if isinstance(study, Study) else load_study(study, overrides)
    if isinstance(study, Study) and overrides:
        raise BadRequest(
            "overrides change a study file, not a Study: give the file, or change the Study itself"
        )
    folder = run_folder(out or Path(asked.storage.root) / asked.study)
    before, existing = state_of(folder), existing_study(folder / STUDY)
    if trials_more < 0:
        raise BadRequest(f"--trials +N takes a positive number, not {trials_more}")
    if trials_more:
        already = standing_study(existing) if existing else asked
        asked = asked.with_trials(already.search.trials + trials_more)
    nodes = None if local else cluster_nodes()
    planned = allocate(asked.resources, nodes, kept_packing(folder))
    check_budget(asked.budget, planned.gpu, begun=existing is not None)
    device = "cuda" if planned.gpu else "cpu"
    resolved = resolve(asked, cached_data(asked.tuning_data), existing, device)
    notes: list[str] = []
    if existing is not None:
        planned, notes = keep_device(resolved, planned, asked.resources, nodes)
    elif asked.judging_data != asked.tuning_data:  # a study that cannot be evaluated is not begun
        check_judged(resolved, cached_data(asked.judging_data))
    check_folder(folder)
    check_storage(resolved.study.storage, folder)
    code = code_of_study(resolved)
    notes += check_code(folder, code, accept_code, ACCEPT)
    known = known_sources(resolved, folder, begun=existing is not None)
    return Prepared(resolved, folder, checkpoints_of(asked, folder), planned, known, code, notes, before)


def checkpoints_of(study: Study, folder: Path) -> Path:
    """Return the folder of the base checkpoints. Raises BadRequest where it cannot be written."""
    if not study.storage.checkpoints:
        return folder / CHECKPOINTS
    checkpoints = checkpoint_folder(study.storage.checkpoints)
    check_writable(checkpoints, "storage.checkpoints")
    return checkpoints


def known_sources(study: ResolvedStudy, folder: Path, begun: bool) -> Known:
    """Return the trials of other runs that the search starts from.

    A source that every cell has learnt from is not read again: it may be gone, or have grown. Raises
    BadRequest.
    """
    sources, known = study.study.search.sources, {}
    names = [cell.name for cell in study.cells]
    learnt = (
        read_learnt(folder, study.study.storage, names) if begun and sources else dict.fromkeys(names, ())
    )
    for source in sources:
        cold = [name for name, seen in learnt.items() if source not in seen]
        if begun and cold and not Path(source).expanduser().is_dir():
            raise BadRequest(
                f"search.start_from {source} is gone, and {cold[0]} has not learnt from it yet: restore it, "
                "or use another --out"
            )
        if cold:
            known[source] = observations(study, source, cold if begun else None)
    return known


def check_folder(folder: Path) -> None:
    """Raise BadRequest unless `folder` is a run folder, or empty, or can be made."""
    check_writable(folder, "the run folder")
    if (folder / STUDY).exists() or not folder.exists():
        return
    beside = (path.name for path in folder.iterdir() if not path.name.startswith("."))
    strange = sorted(name for name in beside if name not in (PLAN, PACKING))  # these come before a run
    if strange:
        raise BadRequest(
            f"{folder} holds {strange[0]!r} and no {STUDY}, so it is no run folder: name another with --out"
        )


def state_of(folder: Path) -> str:
    """Return the texts that a command's checks depend on: the folder's study and code."""
    texts = []
    for name in (STUDY, CODE):
        try:
            texts.append((folder / name).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            texts.append("")
    return "\0".join(texts)
