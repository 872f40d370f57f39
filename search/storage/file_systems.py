"""File systems: whether a folder is on a network, and a place on this machine's own disk."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# File systems that several machines mount: appending and locking are not what they are on a local disk.
NETWORK = {
    "afs", "beegfs", "ceph", "cifs", "cvmfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "wekafs",
    "fuse.beegfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys",
    "fuse.juicefs", "fuse.mountpoint-s3", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
}  # fmt: skip


def network_type(path: Path) -> str | None:
    """Return the network file system of an existing or future path; None if it is local or unknown."""
    place = os.path.realpath(path)
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found, longest = "", -1
    for line in lines:  # 36 35 98:0 /root /mount/point rw,noatime master:1 - nfs4 server:/root rw
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = point == "/" or place == point or place.startswith(f"{point}/")
        if inside and len(point) >= longest:  # of two mounts on one point, the later one is seen
            found, longest = after.split(" ")[0], len(point)
    return found if found in NETWORK else None


def own_place() -> Path | None:
    """Return a folder on this machine's disk that outlives a command; None if there is none.

    It is in XDG_STATE_HOME or, if that is on a network, in the folder for temporary files.
    """
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    user = os.getuid() if hasattr(os, "getuid") else 0
    choices = [Path(state).expanduser() / "cl-search", Path(tempfile.gettempdir()) / f"cl-search-{user}"]
    return next((place for place in choices if network_type(place) is None and _made(place, user)), None)


def _made(place: Path, user: int) -> bool:
    """Make the folder; tell whether it belongs to this user and can be written."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return not place.is_symlink() and place.stat().st_uid == user and os.access(place, os.W_OK)
    except OSError:
        return False
