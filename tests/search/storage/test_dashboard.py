"""optuna-dashboard opens a run's studies as they are."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pytest

from analysis.lake.run_folder import JOURNAL, SQLITE_FILE
from search.cells.search_queue import SearchQueue
from tests.search.simulation import Driver
from tests.search.storage.test_databases import kept_in

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")


@pytest.mark.skipif(
    importlib.util.find_spec("optuna_dashboard") is None, reason="optuna-dashboard is not installed"
)
@pytest.mark.filterwarnings("ignore:.*deprecated.*")  # of the dashboard's own
@pytest.mark.parametrize(("optuna", "name"), [("journal", JOURNAL), ("sqlite", f"sqlite:///{SQLITE_FILE}")])
def test_the_dashboard_shows_every_cell(optuna: str, name: str, tmp_path: Path) -> None:
    from optuna_dashboard import wsgi

    resolved = kept_in(optuna, tmp_path, trials=3)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        Driver(cells, tmp_path).run()
    url = name.replace("sqlite:///", f"sqlite:///{tmp_path}/")
    app = wsgi(url if "://" in url else str(tmp_path / url))  # what its command line takes
    studies = asked(app, "/api/studies")["study_summaries"]
    assert {study["study_name"] for study in studies} == {cell.name for cell in resolved.cells}
    trials = asked(app, f"/api/studies/{studies[0]['study_id']}")["trials"]
    assert [trial["state"] for trial in trials] == ["Complete"] * 3


def asked(app: Any, path: str) -> Any:
    """The JSON that a WSGI application answers to GET."""
    seen: list[str] = []
    query = "after=0" if path.count("/") > 2 else ""
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(), "wsgi.url_scheme": "http",
    }  # fmt: skip
    body = b"".join(app(environ, lambda status, headers, *rest: seen.append(status)))
    assert seen[0].startswith("200"), (seen, body)
    return json.loads(body)
