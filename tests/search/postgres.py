"""A PostgreSQL server of your own for tests: unprivileged, on the loopback, its data thrown away."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "p@ss/w:rd%"  # of the user `tuner`; each of these characters means something in a URL
IN_URL = "p%40ss%2Fw%3Ard%25"


def binaries() -> Path | None:
    """Return the folder of pg_ctl and initdb: on the path, or Debian's."""
    places = [Path(found).parent for name in ("pg_ctl",) if (found := shutil.which(name))]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "pg_ctl").exists() and (p / "initdb").exists()), None)


def why_not() -> str | None:
    """Return the reason why no server can run here; None where one can."""
    if binaries() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    if not any(importlib.util.find_spec(name) for name in ("psycopg", "psycopg2")):
        return 'no driver: pip install "cl-search[postgresql]"'
    return None


@dataclass
class Server:
    """A server on 127.0.0.1:`port` with a database `studies` of the user `tuner`."""

    place: Path
    port: int
    user: str | None  # the account it runs as; None for this one

    @property
    def url(self) -> str:
        """Without the password."""
        return f"postgresql://tuner@127.0.0.1:{self.port}/studies"

    @property
    def full_url(self) -> str:
        """With the password."""
        return self.url.replace("tuner@", f"tuner:{IN_URL}@")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.place} -F"
        self._call("pg_ctl", "start", "-w", "-D", self.data, "-o", options, "-l", str(self.place / "log"))

    def stop(self) -> None:
        """As a machine that is switched off: connections are cut."""
        self._call("pg_ctl", "stop", "-w", "-D", self.data, "-m", "immediate")

    @property
    def data(self) -> str:
        return str(self.place / "data")

    def make(self) -> None:
        """A new cluster of databases whose user needs a password."""
        secret = self.place / "secret"
        secret.write_text(PASSWORD)
        if self.user is not None:
            for path in (self.place, secret):
                shutil.chown(path, self.user)
        who = ("-U", "tuner", f"--pwfile={secret}", "-A", "scram-sha-256")
        self._call("initdb", "-D", self.data, *who, "-E", "UTF8", "--no-locale", "-N")
        self.start()
        import sqlalchemy

        from search.storage.database import driver

        url = f"postgresql+{driver(self.url)}://tuner@127.0.0.1:{self.port}/postgres"
        engine = sqlalchemy.create_engine(
            url, isolation_level="AUTOCOMMIT", connect_args={"password": PASSWORD}
        )
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("CREATE DATABASE studies"))
        engine.dispose()

    def _call(self, program: str, *arguments: str) -> None:
        place = binaries()
        assert place is not None
        output = self.place / "output"  # a server keeps what it inherits: of a pipe, the end would never come
        with output.open("w") as file:
            done = subprocess.run(
                [str(place / program), *arguments],
                user=self.user,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                timeout=120,
                check=False,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            )
        if done.returncode:
            raise RuntimeError(f"{program} ended with {done.returncode}: {output.read_text()}")


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A server while the block runs."""
    user = None
    if os.getuid() == 0:  # PostgreSQL refuses to be root
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = next(name for name in ("postgres", "nobody") if name in names)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path has to be short
    made = Server(place, port, user)
    try:
        made.make()
        yield made
    finally:
        with contextlib.suppress(RuntimeError):
            made.stop()
        shutil.rmtree(place, ignore_errors=True)
