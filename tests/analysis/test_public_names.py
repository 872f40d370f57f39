"""The public names of `analysis`: shown by `dir`, and loaded when they are used."""

from __future__ import annotations

import subprocess
import sys

import analysis


def test_dir_shows_every_public_name_and_each_can_be_had() -> None:
    shown = [name for name in dir(analysis) if not name.startswith("_")]
    assert shown == sorted(analysis.__all__)
    assert all(getattr(analysis, name).__doc__ for name in shown)


def test_to_list_the_names_loads_no_library() -> None:
    text = "import sys, analysis; dir(analysis); print('pandas' in sys.modules or 'duckdb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
