"""Places and addresses that a command needs: refused in one line before anything is made."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cl_core.errors import BadRequest
from search.backends.ray_address import check_answers, cluster_address
from search.commands.run import run_study
from search.storage.places import local_folder, ray_elsewhere, ray_temporary, too_long
from tests.search.terminal import refused, write

SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def headers(block: bytes) -> bytes:
    """A frame of HTTP/2 that ends headers."""
    return len(block).to_bytes(3, "big") + b"\x01\x04\0\0\0\x01" + block


GRPC = headers(b"\x88@\x0ccontent-type\x10application/grpc")
NOT_FOUND = headers(b"\x8d")
NO_TOKEN = headers(b"\x88@\x0ccontent-type\x10application/grpc\0\x0bgrpc-status\x0216")


@contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """The address of a server that reads a call and answers with given bytes."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    "path", ["s3://bucket/runs", "file:///tmp/x", "gs:/bucket", Path("s3://bucket/runs"), "hdfs+x://a"]
)
def test_a_url_is_no_folder(path: str | Path) -> None:
    with pytest.raises(BadRequest, match="name a local path"):
        local_folder(path)


@pytest.mark.parametrize("path", ["runs/a:b", "C:/runs", "a:1/b", "/tmp/s3", "~/x"])
def test_a_path_with_a_colon_is_a_folder(path: str) -> None:
    assert local_folder(path) == Path(path).expanduser()


def test_every_verb_refuses_an_unknown_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study, url = write(tmp_path), "hdfs://bucket/x"
    train = ["train", "--method", "lwf", "--data", "digits", "--scenario", "B0-5tasks"]
    for arguments in (
        ["run", study, "--out", url],
        ["run", study, "--set", f"storage.root={url}"],
        ["run", study, "--set", f"storage.checkpoints={url}"],
        ["plan", url],
        ["plan", study, "--out", url],
        ["evaluate", url],
        ["status", url],
        ["report", tmp_path, "--out", url],
        ["report", url],
        ["compare", tmp_path, url],
        ["export", tmp_path, "--out", url],
        [*train, "--out", url],
        [*train, "--save", url],
        ["doctor", "--out", url],
        ["predict", url, "x.png"],
        ["rerun", url, "lwf@B0-5tasks/0"],
    ):
        assert "hdfs://bucket/x" in refused(*arguments)
    with pytest.raises(BadRequest, match="hdfs://bucket/x is none"):
        run_study(study, url, local=True)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_ray_goes_where_it_would_go_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert ray_temporary() == Path("/var/tmp/ray")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert ray_temporary() == Path("/tmp/ray")
    assert ray_elsewhere() == []


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_folder_for_temporary_files_gives_way_to_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / ("x" * 50)))
    assert ray_temporary() == Path("/tmp/ray")
    assert "is too long for its sockets (39 bytes at most)" in ray_elsewhere()[0]


def test_a_path_is_measured_in_bytes() -> None:
    assert not too_long(Path("/" + 42 * "x"))
    assert too_long(Path("/" + 43 * "x"))
    assert too_long(Path("/" + 22 * "ö"))


def test_a_folder_for_temporary_files_that_takes_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/proc")
    line = refused("run", write(tmp_path), "--out", tmp_path / "run")
    assert "Ray keeps its files in /proc/ray while it runs, and /proc cannot take them" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("value", "address"), [("", None), ("local", None), (" a:1 ", "a:1"), ("auto", "auto")]
)
def test_ray_address_names_a_cluster_or_this_machine(
    monkeypatch: pytest.MonkeyPatch, value: str, address: str | None
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", value)
    assert cluster_address() == address


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "at 127.0.0.1:1 nobody answers (Connection refused)"),
        ("ray://127.0.0.1:10001", "is an address of Ray Client"),
        ("somewhere", "must be host:port, auto, or local"),
        ("127.0.0.1:99999", "must be host:port, auto, or local"),
        ("head..cluster:6379", "must be host:port, auto, or local"),
        (f"{'h' * 64}:6379", "must be host:port, auto, or local"),
        ("http://127.0.0.1", "must be host:port, auto, or local"),
    ],
)
def test_an_address_where_no_ray_answers_is_refused_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    study, out = write(tmp_path), tmp_path / "run"
    assert says in refused("run", study, "--out", out)
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert says in refused("run", study, "--out", out, "--address", address)
    assert "give one of them" in refused("run", study, "--out", out, "--address", address, "--local")
    assert not out.exists()


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 400 \r\n\r\n", SETTINGS + NOT_FOUND]
)
def test_what_listens_and_is_no_ray_is_told_apart(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.backends.ray_address.WAIT", 0.2)
    with listening(answer) as address, pytest.raises(BadRequest, match="something listens that is no Ray"):
        check_answers(address)


def test_a_ray_answers_and_one_with_a_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with listening(SETTINGS + GRPC) as address:
        check_answers(address)
    with listening(SETTINGS + NO_TOKEN) as address, pytest.raises(BadRequest, match="RAY_AUTH_MODE=token"):
        check_answers(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with listening(SETTINGS + NO_TOKEN) as address:
        check_answers(address)


def test_a_folder_without_room_is_refused_before_work(tmp_path: Path) -> None:
    if os.geteuid() or os.system(f"mount -t tmpfs -o size=64k tmpfs {tmp_path} 2>/dev/null"):
        pytest.skip("only an administrator makes a small disk")
    try:
        line = refused("run", "quickstart", "--local", "--out", tmp_path / "run")
        assert f"the run folder must be writable, and {tmp_path} is not (No space left on device)" in line
        assert not list(tmp_path.iterdir())
    finally:
        os.system(f"umount {tmp_path}")
