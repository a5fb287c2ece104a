"""The browser snippet against a real collector, in Node where there is one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.serve.service import ROOT, TOKEN, service

NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="needs Node 18 or later to run the browser snippet")
def test_the_snippet_sends_everything_whatever_the_network_does(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        page = ROOT / "tests/serve/snippet_page.js"
        snippet = ROOT / "recsys_lib/serve/snippet.js"
        command = [str(NODE), page, snippet, f"{running.url}/events", TOKEN, "0", "35"]
        ended = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=60, check=True
        )
        assert json.loads(ended.stdout)["left"] == ["other"]
        running.end(signal.SIGTERM)
        events = running.events()
        assert {event["item"] for event in events} == {*(f"i{n}" for n in range(35)), "left behind"}
        # What came twice, because an answer was lost, came with the same id.
        assert len({event["event_id"] for event in events}) == 36
        assert len(events) > 36
