"""An object store: conditional puts, and one line where it does not answer or refuses."""

from __future__ import annotations

import contextlib
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from cl_core.errors import BadRequest
from search.remote import object_store
from search.remote.object_store import Conflict, ObjectStore, StoreError, checked_url
from tests.search.remote.conftest import put_plainly


def test_a_put_on_condition_sees_the_puts_of_others(bucket: str) -> None:
    store = ObjectStore(f"{bucket}/a")
    first = store.put_if("x", b"1", None)
    with pytest.raises(Conflict):
        store.put_if("x", b"2", None)
    store.put_if("x", b"3", first)
    with pytest.raises(Conflict):
        store.put_if("x", b"4", first)
    content, found = store.get("x") or (b"", None)
    assert (content, found and found.size) == (b"3", 1)


def test_objects_are_listed_and_removed_by_name(bucket: str) -> None:
    store = ObjectStore(f"{bucket}/a")
    for name in ("b/2", "b/1", "c"):
        store.put(name, name.encode())
    assert [found.name for found in store.list()] == ["b/1", "b/2", "c"]
    assert [found.name for found in store.list("b")] == ["b/1", "b/2"]
    store.delete(["b/1", "never there"])
    assert store.get("b/1") is None
    assert store.head("b/1") is None
    assert store.head("b/2") is not None
    assert not ObjectStore(f"{bucket}/other").list()


@pytest.mark.parametrize(
    "url", ["hdfs://a/b", "s3://key:secret@bucket/x", "s3://bucket/x?key=1", "file:///x"]
)
def test_a_url_names_a_store_and_no_credentials(url: str) -> None:
    with pytest.raises(BadRequest):
        checked_url(url)


class _Slow(BaseHTTPRequestHandler):
    """An S3 server whose line carries a megabyte in a second."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(1.0)
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(bytes(1_000_000))

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):  # nobody waits for it any more
            self.wfile.write(content[:1000])
            time.sleep(1.0 if content else 0.0)
            self.wfile.write(content[1000:])

    def log_message(self, *given: object) -> None:
        pass


def test_a_large_object_may_take_long(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(object_store, "REQUEST", 0.4)
    monkeypatch.setattr(object_store, "LARGE", 500_000)
    store = ObjectStore(f"{bucket}/x", 0.1)
    store.put("large", bytes(1_000_000))
    content, _ = store.get("large") or (b"", None)
    assert len(content) == 1_000_000
    with pytest.raises(StoreError, match="does not answer in time"):
        store.put("small", b"1")
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("key", "shown"), [("a//b", "'x/a//b'"), ("../b", "'x/../b'"), ("a%01b", "'x/a\\\\x01b'")]
)
def test_an_object_with_an_odd_name_is_named_at_once(
    bucket: str, endpoint: str, key: str, shown: str
) -> None:
    put_plainly(f"{endpoint}/{bucket.removeprefix('s3://')}/x/{key}")
    began = time.monotonic()
    with pytest.raises(StoreError, match=f"must hold no object whose name .*{shown}.*: remove") as caught:
        ObjectStore(f"{bucket}/x").list()
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 5


def test_a_missing_bucket_is_one_line(bucket: str) -> None:
    with pytest.raises(StoreError, match="must be in a bucket that exists: make it") as caught:
        ObjectStore(f"{bucket}-gone/x").put("a", b"")
    assert "\n" not in str(caught.value)


def test_a_store_that_does_not_answer_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(object_store, "REPEATED", 0.3)
        with pytest.raises(StoreError, match="it refuses connections") as caught:
            ObjectStore(f"{bucket}/x").put("a", b"")
    assert "\n" not in str(caught.value)
