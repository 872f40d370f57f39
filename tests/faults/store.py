"""A server of S3's protocol on the loopback, in this process, which can be made to fail."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

BUCKET = "faults"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_REGION": "us-east-1"}
WELL, GONE, SILENT, BUSY, SLOW, LOST, HELD = "well", "gone", "silent", "busy", "slow", "lost", "held"

Start = Callable[..., Any]


class Store:
    """The server. `mode` says how it answers from now on:

    `gone` refuses connections, `silent` answers nothing, `busy` answers 503, `slow` waits before each answer,
    `lost` carries puts out and does not answer them, `held` keeps each put until the mode changes.
    """

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # a client that is killed is none
        self._application = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self._port = 0
        self.mode = WELL
        self.puts = threading.Event()  # a put is held
        self._listen()
        self._client = boto3.client("s3", endpoint_url=self.endpoint, **_named(CREDENTIALS))
        self._client.create_bucket(Bucket=BUCKET)

    @property
    def endpoint(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment with which a command uses the server."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint}

    @contextlib.contextmanager
    def failing(self, mode: str) -> Iterator[None]:
        """Fail in one way while the block runs."""
        self.puts.clear()
        self.mode = mode
        if mode == GONE:
            self._close()
        try:
            yield
        finally:
            if mode == GONE:
                self._listen()
            self.mode = WELL

    def objects(self, prefix: str) -> dict[str, int]:
        """Return the names of the objects below a prefix, with their bytes."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", ())}

    def get(self, name: str) -> bytes:
        """Return the content of an object."""
        return bytes(self._client.get_object(Bucket=BUCKET, Key=name)["Body"].read())

    def put(self, name: str, content: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=BUCKET, Key=name, Body=content)

    def remove(self, name: str) -> None:
        """Remove an object."""
        self._client.delete_object(Bucket=BUCKET, Key=name)

    def close(self) -> None:
        """End the server."""
        self.mode = GONE
        self._close()

    def _listen(self) -> None:
        self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        put = environ["REQUEST_METHOD"] == "PUT"
        if self.mode == SLOW:
            time.sleep(0.3)
        while self.mode == SILENT:
            time.sleep(0.05)
        if self.mode == BUSY:
            start("503 Slow Down", [("Content-Length", "0"), ("Connection", "close")])
            return []
        if self.mode == HELD and put:
            self.puts.set()
            while self.mode == HELD:
                time.sleep(0.02)
        if self.mode == GONE:
            return self._hang_up(environ)
        if self.mode == LOST and put:
            list(self._application(environ, lambda *given: None))
            self.puts.set()
            return self._hang_up(environ)
        return self._application(environ, start)

    def _hang_up(self, environ: dict[str, Any]) -> Iterable[bytes]:
        with contextlib.suppress(OSError):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionError("this client gets no answer")


def _named(credentials: dict[str, str]) -> dict[str, str]:
    return {
        "aws_access_key_id": credentials["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": credentials["AWS_SECRET_ACCESS_KEY"],
        "region_name": credentials["AWS_REGION"],
    }


@contextlib.contextmanager
def in_environment(more: dict[str, str]) -> Iterator[None]:
    """Set variables of this process while the block runs."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
