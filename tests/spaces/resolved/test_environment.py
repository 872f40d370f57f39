"""The environment of a study: the commit of the folder that it is started in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from spaces.resolved.environment import commit


def test_the_commit_is_that_of_the_folder_and_changed_files_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert commit() == ""
    (tmp_path / "mine.py").write_text("A = 1\n")
    own = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "mine.py"], [*own, "commit", "-qm", "Begin"]):
        subprocess.run(["git", *words], check=True)
    assert len(commit()) == 40
    (tmp_path / "mine.py").write_text("A = 2\n")
    assert commit().endswith(" (changed files)")
