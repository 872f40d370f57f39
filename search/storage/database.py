"""Optuna's studies in a database: SQLite in a file, PostgreSQL on a server.

Every error is one line, and none shows a password.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from cl_core.errors import BadRequest, ClSearchError
from spaces.study.storage_url import BETTER, SQLITE, sqlite_path, without_passwords

DRIVERS = ("psycopg", "psycopg2")  # in order of preference
EXTRA = 'pip install "cl-search[postgresql]"'
MENDED = (
    "restore it from a copy, or move it away if no other study uses it, and give the command again, which "
    "makes it from the tables"
)
BUSY = 60.0  # seconds to wait for another process that writes into the same SQLite file
# Settings of libpq: a server that vanished is given up after half a minute, not after the kernel's quarter of
# an hour.
_TIMES = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class Database:
    """A database for one command. `optuna` is its storage, None if it is only read and has no studies yet.

    A database that is only read is not changed. `place` names it in errors (default: its URL). Raises
    BadRequest if it cannot be opened.
    """

    def __init__(
        self, url: str, password: str | None = None, *, place: str = "", read_only: bool = False
    ) -> None:
        self.url, self.place = url, place or url
        self.engine: sqlalchemy.Engine | None = None
        self.optuna: BaseStorage | None = None
        self._password = password
        try:
            storage = self._storage(read_only)
        except (SQLAlchemyError, StorageInternalError, sqlite3.Error, RuntimeError, OSError) as error:
            self.close()
            raise BadRequest(
                f"cannot open storage.optuna {url}: {reason(error, password)}: {self._remedy(error)}"
            ) from None
        if storage is not None:
            self.optuna = get_storage(storage)  # caches trials that have ended

    def close(self) -> None:
        """Close the connections."""
        if self.engine is not None:
            self.engine.dispose()

    def _storage(self, read_only: bool) -> RDBStorage | None:
        if self.url.startswith(SQLITE):
            path = sqlite_path(self.url)
            if read_only and not path.exists():
                return None
            # The path is opened here: in a URL, some characters of a folder's name mean something else.
            url, kwargs = f"{SQLITE}optuna", {"creator": _opener(path, read_only)}
        else:
            url = self.url.replace(self.url.partition("://")[0], f"postgresql+{driver(self.url)}", 1)
            given = {} if self._password is None else {"password": self._password}
            kwargs = {"pool_pre_ping": True, "connect_args": {**_TIMES, **given}}
        if read_only:
            self.engine = sqlalchemy.create_engine(url, **kwargs)
            if not sqlalchemy.inspect(self.engine).has_table("alembic_version"):  # made last
                return None
            self.engine.dispose()
        plain = url.replace("{", "{{").replace("}", "}}")  # Optuna fills in what stands in braces
        storage = _patiently(plain, kwargs, read_only)
        self.engine = storage.engine
        return storage

    def _remedy(self, error: BaseException) -> str:
        text = str(error)
        if self.url.startswith(SQLITE) and ("malformed" in text or "not a database" in text):
            return f"it is damaged, {MENDED}"
        if self.url.startswith(SQLITE):
            return "see that it can be read and written, or name another"
        if "no longer compatible" in text or "version of schema" in text:
            return "use another database, or `optuna storage upgrade`"
        if "password" in text:
            return f"{BETTER}, or give it in the URL with --set"
        return "see that the server runs and lets this user in, or name another"


def damaged(place: str, why: str) -> BadRequest:
    """Return the error for a database whose rows are not as they were written."""
    remedy = MENDED if place.startswith("sqlite") else "restore it from a copy, or use another --out"
    return BadRequest(f"storage.optuna {place} is damaged ({why}): {remedy}")


def _patiently(url: str, kwargs: dict[str, Any], read_only: bool) -> RDBStorage:
    """Open a database. Two commands may both make the tables of a new one: the second tries again."""
    for wait in (0.2, 1.0, None):
        try:
            return RDBStorage(
                url, dict(kwargs), skip_compatibility_check=read_only, skip_table_creation=read_only
            )
        except (IntegrityError, ProgrammingError, StorageInternalError):
            if wait is None or read_only:
                raise
            time.sleep(wait)
    raise AssertionError("the last attempt raises")


def _opener(path: Path, read_only: bool) -> Any:
    """Return a function that connects to a file and waits for other readers and writers."""
    uri = path.absolute().as_uri() + ("?mode=ro" if read_only else "")
    return lambda: sqlite3.connect(uri, uri=True, timeout=BUSY, check_same_thread=False)


def driver(url: str) -> str:
    """Return the installed package for PostgreSQL. Raises BadRequest if there is none."""
    wanted = url.partition("://")[0].partition("+")[2]
    for name in DRIVERS:
        if wanted in ("", name) and importlib.util.find_spec(name) is not None:
            return name
    raise BadRequest(
        f"storage.optuna {url} needs the package {wanted or DRIVERS[0]}, which is not installed: {EXTRA}"
    )


def reason(error: BaseException, password: str | None = None) -> str:
    """Return the error of a database in one line."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    inner = getattr(error, "orig", None) or error
    lines = str(inner).strip().splitlines()
    # libpq writes what it tried in the first line, and the result at its end or in the next line.
    text = " ".join(lines[0].split()) if lines else type(inner).__name__
    if password:
        text = text.replace(password, "***")
    return without_passwords(text)


class LostDatabase(ClSearchError):
    """The database does not answer any more. The command ends, and can be given again."""


@contextlib.contextmanager
def while_it_answers(place: str, password: str | None = None) -> Iterator[None]:
    """Name the database in its errors while the block runs. Raises LostDatabase."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise LostDatabase(
            f"storage.optuna {place} does not answer any more: {reason(error, password)}; nothing is lost: "
            "bring it back and give the same command again"
        ) from None
