"""The image files below a folder, `<split>/<class>/*`, and a count of the files skipped.

Folders within a class folder are part of it. Skipped are hidden names, files of other programs (such as
`__MACOSX`), links to folders inside a class, and files without an image's ending.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cl_core.errors import BadRequest
from cl_core.images.class_names import composed, unfit
from cl_core.images.decoding import SUFFIXES
from cl_core.images.files import Item
from cl_core.images.loading import evenly

_FOREIGN = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
_HIDDEN, _LOOSE, _BARE = "hidden", "outside a class folder", "without an ending"
_KINDS = 5  # of what is passed over that are named


class Listing:
    """Finds classes and images below `root`, and counts what it passes over on the way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.passed: Counter[str] = Counter()  # kind -> entries
        self._first: dict[str, str] = {}  # kind -> path of the first of them

    def classes(self, split: str) -> dict[str, str]:
        """Class name in the composed Unicode form -> folder in `split`, sorted by name.

        Raises BadRequest where there is none, and on folders whose names are no class names.
        """
        at = self.root / split
        found: dict[str, str] = {}
        for entry in self._entries(split):
            if not _is_folder(entry):
                self._pass_over(split, entry)
                continue
            name = self._class_name(split, entry)
            if name in found:
                raise BadRequest(
                    f"class folders must differ in more than their Unicode form: {at} has {found[name]!a} "
                    f"and {entry.name!a}, which are both {name!r}. Merge them, or rename one."
                )
            found[name] = entry.name
        if not found:
            raise BadRequest(f"{at} has no class folders: arrange the images as {at.name}/<class>/*")
        return dict(sorted(found.items()))

    def images(
        self, split: str, folders: Sequence[str], per_class: int | None = None, below: str = ""
    ) -> list[Item]:
        """The images in `root/split/<folder>/<below>` of each class, labelled by position, sorted by path.

        At most `per_class` of each, evenly spaced. Raises BadRequest on a class without images.
        """
        items = []
        for label, name in enumerate(folders):
            folder = "/".join(part for part in (split, name, below) if part)
            before = self.passed.copy()
            found = self.below(folder)
            if not found:
                others = _counted(self.passed - before)
                raise BadRequest(
                    f"class folder {self.root / folder} holds no images ({', '.join(SUFFIXES[:3])}, ...)"
                    f"{f', but {others}' if others else ''}: add images or remove the folder"
                )
            items += [Item(found[i], label) for i in evenly(len(found), per_class)]
        return items

    def below(self, folder: str = "") -> list[str]:
        """Return the images in `folder` and below, relative to `root`, sorted by composed Unicode form."""
        found, waiting = [], [folder]
        while waiting:
            at = waiting.pop()
            for entry in self._entries(at):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(_joined(at, entry.name))
                # A link that leads nowhere is an image that is missing, which is an error when it is read.
                elif _has_ending(entry) and (_is_file(entry) or _leads_nowhere(entry)):
                    found.append(_joined(at, entry.name))
                else:
                    self._pass_over(at, entry)
        return sorted(found, key=lambda path: (composed(path), path))

    @property
    def notes(self) -> tuple[str, ...]:
        """One line on what was passed over; none if nothing was."""
        if not self.passed:
            return ()
        kind = _in_order(self.passed)[0]
        said = f"passed over in {self.root}: {_counted(self.passed)}, such as {self._first[kind]!r}."
        if kind.startswith(".") or kind == _BARE:
            said += " Convert what is an image to PNG or JPEG to use it."
        elif kind == _LOOSE:
            said += " Move what is an image into the folder of its class to use it."
        return (said,)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """Return the entries of a folder by name, without hidden and foreign ones, which are counted."""
        try:
            with os.scandir(self.root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise BadRequest(
                f"{self.root / folder} cannot be listed ({error.strerror}): check it and its permissions"
            ) from error
        out = []
        for entry in entries:
            if is_foreign(entry.name):
                kind = _HIDDEN if entry.name.startswith(".") else "of other programs"
                self._count(kind, folder, entry)
            else:
                out.append(entry)
        return out

    def _class_name(self, split: str, entry: os.DirEntry[str]) -> str:
        at = self.root / split
        rule = unfit(entry.name)
        if rule is not None:
            raise BadRequest(
                f"class names must {rule}: the folder {os.fsencode(entry.name)!r} in {at} breaks this. "
                "Rename it."
            )
        if entry.is_symlink() and at.resolve().is_relative_to(Path(entry.path).resolve()):
            raise BadRequest(
                f"class folder {at / entry.name} is a link to a folder that holds it: remove the link"
            )
        return composed(entry.name)

    def _pass_over(self, folder: str, entry: os.DirEntry[str]) -> None:
        if _is_folder(entry):
            kind = "links to folders"
        elif not _is_file(entry):
            kind = "neither file nor folder"
        elif _has_ending(entry):
            kind = _LOOSE
        else:
            kind = PurePosixPath(entry.name).suffix.lower() or _BARE
        self._count(kind, folder, entry)

    def _count(self, kind: str, folder: str, entry: os.DirEntry[str]) -> None:
        self.passed[kind] += 1
        self._first.setdefault(kind, _joined(folder, entry.name))


def is_foreign(name: str) -> bool:
    """Tell a name that is hidden, or that a file system or another program keeps to itself."""
    return name.startswith(".") or name.lower() in _FOREIGN


def _counted(passed: Counter[str]) -> str:
    """3 .heic, 1 hidden."""
    kinds = _in_order(passed)
    parts = [f"{passed[kind]:,} {kind}" for kind in kinds[:_KINDS]]
    rest = sum(passed[kind] for kind in kinds[_KINDS:])
    return ", ".join([*parts, *([f"{rest:,} others"] if rest else [])])


def _in_order(passed: Counter[str]) -> list[str]:
    """The kinds, endings before the others, for what has one may be an image; then by count."""
    return sorted(passed, key=lambda kind: (not kind.startswith("."), -passed[kind], kind))


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _has_ending(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(SUFFIXES)


# An entry that is a link to itself raises where a Path says no.


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry[str]) -> bool:
    return Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()
