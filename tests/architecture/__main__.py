"""Print the table of rooms: `python -m tests.architecture`; `--write` puts it on cl_core/README.md."""

from __future__ import annotations

import sys

from tests.architecture.rooms import arrows_up, circles, inner_imports, rooms, table, write
from tests.architecture.sources import PACKAGES

if "--write" in sys.argv[1:]:
    write()
print(table())
measured = rooms()
for package in PACKAGES:
    own = [room for room in measured if room.name.split("/")[0] == package]
    print(
        f"{package}: {sum(room.files for room in own)} files, {sum(room.lines for room in own):,} lines,"
        f" {sum(sum(room.imports.values()) for room in own)} imports between its rooms,"
        f" {len(inner_imports(package))} imports inside functions"
    )
print(f"all: {sum(room.files for room in measured)} files, {sum(room.lines for room in measured):,} lines")
print("circles:", circles() or "none")
print("arrows up:", arrows_up() or "none")
