"""A headless Chromium, driven by its DevTools protocol over a pipe: no port, no further package."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--remote-debugging-pipe"),
)


def chromium() -> str | None:
    """The path of the browser; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a running browser; `problems` collects what its console complains of."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self.process, self._to, self._back = process, to, back
        self._numbers, self._rest, self._session = itertools.count(1), b"", ""
        self.problems: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result. Raises AssertionError on an error."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._receive()
            if found.get("id") == number:
                assert "error" not in found, f"{method}: {found['error']}"
                result: dict[str, Any] = found["result"]
                return result

    def _receive(self, seconds: float = 30.0) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._back], [], [], seconds)[0], "the browser does not answer"
            part = os.read(self._back, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        self._note(found)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        """Keep errors, warnings and exceptions of the page's console."""
        given = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
            self.problems.append(" ".join(str(one.get("value", one)) for one in given["args"]))
        elif event.get("method") == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.problems.append(given["entry"]["text"])

    def show(self, width: int, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Set the size of the window, the preferred scheme, and the medium (print or nothing)."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, page: Path) -> None:
        """Load a page and wait until its script has run."""
        self.send("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.documentElement?.dataset.ready === 'yes'")

    def run(self, script: str) -> Any:
        """Evaluate JavaScript, waiting for a promise, and return its value as JSON holds it."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until a condition in JavaScript holds. Raises AssertionError when it does not."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"{condition} does not come true: {self.problems}"
            time.sleep(0.05)

    def picture(self, path: Path, whole: bool = False) -> None:
        """Write what the window shows as PNG, or the whole page."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, ended at the end."""
    path = chromium()
    assert path is not None
    their_in, to = os.pipe()
    back, their_out = os.pipe()

    # The protocol reads from 3 and writes to 4.
    handed = f'exec "$0" "$@" 3</dev/fd/{their_in} 4>/dev/fd/{their_out}'
    process = subprocess.Popen(
        ["sh", "-c", handed, path, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(their_in, their_out),
    )
    os.close(their_in)
    os.close(their_out)
    try:
        yield Browser(process, to, back)
    finally:
        process.terminate()
        process.wait(10)
        os.close(to)
        os.close(back)
