"""The beginning of a run folder: a command that is killed in it is given again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.search.terminal import call, write


def test_a_command_killed_while_it_makes_its_folder_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*given: object) -> None:
        raise SystemExit(9)

    study, out = write(tmp_path), tmp_path / "x"
    with monkeypatch.context() as patched:
        patched.setattr("search.commands.run.start_tables", dies)
        call("run", study, "--local", "--out", out, code=9)
    assert "2 runs completed" in call("run", study, "--local", "--out", out, code=0).stdout
