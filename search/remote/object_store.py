"""Object store: the files of a folder on s3://, gs:// or az://, through obstore.

A put is atomic, and may be conditional. Credentials come from the environment of the process alone (such as
AWS_ACCESS_KEY_ID, or the role of a machine). Requests are repeated while the store does not answer; then one
line says so.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cl_core.errors import BadRequest, ClSearchError

if TYPE_CHECKING:
    from datetime import datetime

_EXTRA = 'pip install "cl-search[remote]"'
SCHEMES = ("s3", "gs", "az")
REPEATED = 180.0  # seconds to repeat a request that the store does not answer
FIRST = 15.0  # seconds to repeat the first one of a command
REQUEST = 30.0  # seconds until one request counts as unanswered; a large object has more
LARGE, SLOWEST = 4_000_000, 200_000  # bytes of a large object, and bytes a second of the slowest line
REQUESTS = 8  # requests at a time
LONGEST = 5.0  # seconds between two requests of which the first is not answered, at most
_REFUSED = re.compile(r"status code: 4(?!08|09|29)\d\d")  # 409: two puts at one moment
_T = TypeVar("_T")
_R = TypeVar("_R")


class StoreError(ClSearchError):
    """The object store does not answer, or refuses. What was written there stays."""


class _Unanswered(StoreError):
    """The store may answer when it is asked again."""


class Conflict(Exception):
    """A conditional put found another object."""


class Tag(NamedTuple):
    """The state of an object: another put changes it."""

    etag: str
    version: str | None = None  # where the store numbers its versions

    @property
    def mode(self) -> dict[str, str]:
        """The condition of a put that this state be still there."""
        return {"e_tag": self.etag, **({} if self.version is None else {"version": self.version})}


@dataclass(frozen=True)
class Stored:
    """An object: its name below the folder, its state, its bytes, and the time of its put."""

    name: str
    tag: Tag
    size: int
    time: datetime


def checked_url(given: object) -> str:
    """Return the URL of a folder in an object store. Raises BadRequest for another one."""
    text = re.sub(":/+", "://", str(given), count=1).rstrip("/")  # `Path` folds the two slashes
    scheme, _, rest = text.partition("://")
    if scheme not in SCHEMES:
        raise BadRequest(
            f"a run folder must be a path, or a URL of {', '.join(f'{name}://' for name in SCHEMES)}: "
            f"{text} is none; name another"
        )
    if "@" in rest or "?" in rest:
        raise BadRequest(
            f"a {scheme}:// URL must have no credentials and no options: set them in the environment, as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return text


class ObjectStore:
    """The objects below one URL, by name. Every method raises StoreError.

    Objects may be read and written by several threads. A request that is not answered is repeated for
    `seconds` (default: REPEATED).
    """

    def __init__(self, url: str, seconds: float | None = None) -> None:
        self.url = checked_url(url)
        self._seconds = REPEATED if seconds is None else seconds
        self._obstore = _library()
        self._store = _opened(self._obstore, self.url, REQUEST)

    def get(self, name: str) -> tuple[bytes, Stored] | None:
        """Return the content of an object; None if there is none."""

        def content() -> tuple[bytes, Stored]:
            found = self._obstore.get(self._store, name)
            if (size := found.meta["size"]) > LARGE:  # nothing of it has been read yet
                found = self._obstore.get(self._patient(size), name)
            return bytes(found.bytes()), _stored(found.meta)

        try:
            return self._do(content)
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes, guard: Callable[[], None] | None = None) -> Tag:
        """Write an object; return its state. `guard` is called before each request: it may forbid it."""
        return self._put(name, content, "overwrite", guard)

    def put_if(self, name: str, content: bytes, before: Tag | None) -> Tag:
        """Write an object if its state is `before`, with None if there is none; return its new state.

        Raises Conflict if it is not.
        """
        if before is None:
            return self._put(name, content, "create")
        return self._put(name, content, before.mode)

    def head(self, name: str) -> Stored | None:
        """Return an object without its content; None if there is none."""
        try:
            return _stored(self._do(partial(self._obstore.head, self._store, name)))
        except FileNotFoundError:
            return None

    def list(self, prefix: str = "") -> list[Stored]:
        """Return the objects below a prefix of whole folders, by name."""

        def found() -> list[Stored]:
            chunks = self._obstore.list(self._store, prefix=prefix or None, chunk_size=1000)
            return sorted((_stored(meta) for chunk in chunks for meta in chunk), key=lambda one: one.name)

        return self._do(found)

    def delete(self, names: Iterable[str], guard: Callable[[], None] | None = None) -> None:
        """Remove objects, as far as they are there; `guard` as in `put`."""
        if gone := list(names):
            try:
                self._do(partial(self._obstore.delete, self._store, gone), guard)
            except FileNotFoundError:
                for name in gone if len(gone) > 1 else ():  # the others stay there at the first one
                    self.delete([name], guard)

    def _put(self, name: str, content: bytes, mode: Any, guard: Callable[[], None] | None = None) -> Tag:
        store = self._patient(len(content)) if len(content) > LARGE else self._store
        put = partial(self._obstore.put, store, name, content, mode=mode, use_multipart=False)
        return _tag(self._do(put, guard))

    def _patient(self, size: int) -> Any:
        """Return the store, with time for a request of `size` bytes on a slow line."""
        return _opened(self._obstore, self.url, REQUEST + size / SLOWEST)

    def _do(self, request: Callable[[], _R], guard: Callable[[], None] | None = None) -> _R:
        end, wait = time.monotonic() + self._seconds, 0.1
        while True:
            if guard is not None:
                guard()
            try:
                return self._once(request)
            except _Unanswered as error:
                if time.monotonic() + wait > end:
                    raise StoreError(str(error)) from None
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, LONGEST)

    def _once(self, request: Callable[[], _R]) -> _R:
        errors = self._obstore.exceptions
        try:
            return request()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise StoreError(
                    f"{self.url} must be in a bucket that exists: make it, or name another"
                ) from None
            raise
        except (errors.AlreadyExistsError, errors.PreconditionError):
            raise Conflict from None
        except errors.InvalidPathError as error:
            raise StoreError(
                f"{self.url} must hold no object whose name has an empty part, a '.' or '..', or a control "
                f"character ({_key(error)}): remove this object, or name another folder"
            ) from None
        except (errors.BaseError, OSError, ValueError) as error:
            kind = StoreError if _REFUSED.search(str(error)) else _Unanswered
            raise kind(
                f"{self.url} must answer and allow reading and writing ({_reason(error)}): see to the store, "
                "the network and the credentials in the environment, and give the command again"
            ) from None


@lru_cache(maxsize=64)
def object_store(url: str) -> ObjectStore:
    """Return the store of a URL, one for this process. Raises BadRequest."""
    return ObjectStore(url)


def at_once(work: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """Do some work on each item, `REQUESTS` at a time; return the results in the order of the items."""
    with ThreadPoolExecutor(REQUESTS, thread_name_prefix="store") as pool:
        yield from pool.map(work, items)


def _library() -> Any:
    try:
        for module in ("obstore.exceptions", "obstore.store"):
            importlib.import_module(module)
        return importlib.import_module("obstore")
    except ImportError:
        raise BadRequest(f"a folder in an object store needs obstore: {_EXTRA}") from None


def _opened(obstore: Any, url: str, seconds: float) -> Any:
    # It repeats only requests that are idempotent by themselves; ours all are, so they are repeated here.
    retry = {"max_retries": 1, "retry_timeout": timedelta(seconds=1)}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options: Any = {"timeout": timedelta(seconds=seconds), "allow_http": endpoint.startswith("http://")}
    try:
        return obstore.store.from_url(url, client_options=options, retry_config=retry)
    except Exception as error:
        raise BadRequest(f"{url} must name a folder in a bucket ({_reason(error)}): name another") from None


def _stored(meta: Any) -> Stored:
    return Stored(meta["path"], _tag(meta), int(meta["size"]), meta["last_modified"])


def _tag(meta: Any) -> Tag:
    return Tag(str(meta["e_tag"]), meta.get("version"))


def _key(error: BaseException) -> str:
    """Return the name of the object, or the whole first line, of an error that refuses a name."""
    first = str(error).splitlines()[0]
    found = re.search(r'[Pp]ath "(.*?)"(?: contained|: )', first)
    return ascii(found[1] if found else first)


def _reason(error: BaseException) -> str:
    """Return the reason in a few words: the code that the store gave, else the first line."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    status = re.search(r"status code: (\d+ [A-Za-z ]+)", text)
    if code or status:
        return " ".join(found[1].strip() for found in (status, code) if found)
    if "Connection refused" in text:
        return "it refuses connections"
    if "TimedOut" in text or "timed out" in text:
        return "it does not answer in time"
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return re.sub(r"https?://\S+", "", first.split("  - ")[-1])[:160].strip()
