"""Values of `storage.optuna`, the place of Optuna's studies, and passwords kept out of sight.

    journal, sqlite                     a file in the run folder
    sqlite:///path                      a file that several runs may share
    postgresql://user@host/database     a server that several runs may share

A password in a URL is kept apart. Only the URL without it is stored and shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from cl_core.errors import BadRequest

FILES = ("journal", "sqlite")
SCHEMES = ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")
SQLITE = "sqlite:///"
FORMS = "journal, sqlite, sqlite:///path or postgresql://user@host/database"
BETTER = "put the password in ~/.pgpass or PGPASSWORD"

_HOST = re.compile(r"[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.%]+\]")
_USER_INFO = re.compile(r"(://[^\s:/@]*):\S*@")
_IN_QUERY = re.compile(r"([?&]\w*password=)[^&\s]*", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Return a text with the passwords in its URLs covered.

    >>> without_passwords("--set storage.optuna=postgresql://ann:secret@db:5432/studies")
    '--set storage.optuna=postgresql://ann:***@db:5432/studies'
    """
    return _IN_QUERY.sub(r"\1***", _USER_INFO.sub(r"\1:***@", text))


def split_password(value: str) -> tuple[str, str | None]:
    """Return a value of `storage.optuna` as it is stored, and the password that it held.

    A relative path of sqlite is made absolute, because commands read the run folder from other folders too.
    Raises BadRequest for an invalid value, without its password.
    """
    if value in FILES:
        return value, None
    if value.startswith(SQLITE):
        return _sqlite(value), None
    scheme, _, rest = value.partition("://")
    if scheme not in SCHEMES or not rest:
        raise BadRequest(f"storage.optuna must be {FORMS}, not {_cut(value)}")
    return _postgresql(value)


def sqlite_path(url: str) -> Path:
    """Return the file of a sqlite:/// URL."""
    return Path(url.removeprefix(SQLITE))


def _sqlite(value: str) -> str:
    path = value.removeprefix(SQLITE)
    if path in ("", ":memory:") or "?" in path or path.endswith("/"):
        raise BadRequest(f"storage.optuna must name a file after sqlite:///, not {_cut(value)}")
    return SQLITE + str(Path(path).expanduser().absolute())


def _postgresql(value: str) -> tuple[str, str | None]:
    scheme = value.partition("://")[0]
    try:
        parts = urlsplit(value)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        raise _unreadable(scheme) from None
    user_info, _, place = parts.netloc.rpartition("@")
    user, colon, password = user_info.partition(":")
    host = re.sub(r":[0-9]*$", "", place)
    database = parts.path.removeprefix("/")
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[^/@:]+", database) or parts.fragment:
        raise _unreadable(scheme)
    if any("password" in name.lower() for name, _ in query):
        raise BadRequest(f"storage.optuna must have no password after its question mark: {BETTER}")
    where = f"{host}:{port}" if port is not None else host
    plain = f"{scheme}://{user + '@' if user else ''}{where}/{database}"
    return plain + (f"?{parts.query}" if parts.query else ""), unquote(password) if colon else None


def _unreadable(scheme: str) -> BadRequest:
    # An unreadable URL may hold a password anywhere, so no part of it is shown.
    return BadRequest(
        f"storage.optuna must be a URL as in {scheme}://user@host:5432/database: write special "
        f"characters of a password as %40, %2F, ..., or {BETTER}"
    )


def _cut(value: str) -> str:
    shown = without_passwords(repr(value))
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
