"""The HTML report in a real browser: it renders, says nothing on the console, runs nothing and asks the network for nothing."""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

import pytest

from stretto.reports import html
from stretto.reports.model import Report
from tests.unit.reports.histories import shop

pytestmark = pytest.mark.browser

BROWSER_TIMEOUT_S = 90

Browse = Callable[..., tuple[str, list[str]]]
"""Opens a page, given as text and further options of Chromium, and returns its DOM and what it wrote to the console."""


class Trap:
    """A loopback port that counts who connects to it and answers nobody."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.hits = 0
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.hits += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(timeout=5)


@pytest.fixture
def trap() -> Iterator[Trap]:
    it = Trap()
    yield it
    it.close()


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Give the browser, with a profile of its own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium")

    def run(page: str, *options: str) -> tuple[str, list[str]]:
        file = tmp_path / "report.html"
        file.write_text(page, encoding="utf-8")
        done = subprocess.run(
            [
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--enable-logging=stderr",
                "--virtual-time-budget=3000",
                f"--user-data-dir={tmp_path / 'profile'}",
                *options,
                f"file://{file}",
            ],
            capture_output=True,
            timeout=BROWSER_TIMEOUT_S,
            check=True,
        )
        console = [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]
        return done.stdout.decode(errors="replace"), console

    return run


def hostile(url: str) -> Report:
    """Return a report of which every text tries to load something from `url` or to run a script."""
    text = f"<img src={url}/a><script>console.log('ran')</script>\"><link rel=stylesheet href={url}/b> onload='x'"
    report = shop()
    stages = tuple(
        dataclasses.replace(
            stage,
            name=f"{text} {i}",
            jobs=tuple(
                dataclasses.replace(job, name=f"{text} {i} {k}", message=text, reason=text, image=text)
                for k, job in enumerate(stage.jobs)
            ),
        )
        for i, stage in enumerate(report.stages)
    )
    path = dataclasses.replace(report.critical_path, jobs=(stages[0].jobs[0].name, stages[1].jobs[0].name))
    run = dataclasses.replace(
        report.run, name=text, message=text, reason=text, repository=text, branch=text, commit_message=f"{text}\n{text}"
    )
    return dataclasses.replace(report, run=run, stages=stages, critical_path=path)


def test_page_asks_for_nothing_and_runs_nothing(browse: Browse, trap: Trap) -> None:
    """A report full of hostile texts opens without a request, a script or a word on the console."""
    dom, console = browse(html.render(hostile(trap.url), zone=UTC), "--dump-dom")
    assert "What failed" in dom
    assert "<img" not in dom
    assert "<script" not in dom
    assert console == []
    assert trap.hits == 0


def test_page_stays_shut_even_if_escaping_had_a_hole(browse: Browse, trap: Trap) -> None:
    """Its policy alone stops an injected script and an injected picture, and the browser says so."""
    hole = f"<img src={trap.url}/a><script>console.log('ran')</script>"
    page = html.render(shop(), zone=UTC).replace("</header>", f"</header>{hole}")
    _, console = browse(page, "--dump-dom")
    assert trap.hits == 0
    assert not any('"ran"' in line for line in console)
    assert any("Content Security Policy" in line for line in console)


def test_trap_would_notice_a_request_and_the_console_a_script(browse: Browse, trap: Trap) -> None:
    """The counter-check: a page without policy does ask and does run, and both are seen."""
    _, console = browse(f"<img src={trap.url}/a><script>console.log('ran')</script>", "--dump-dom")
    assert trap.hits > 0
    assert any('"ran"' in line for line in console)


def test_page_is_drawn_in_both_schemes(browse: Browse, tmp_path: Path) -> None:
    """The page is light where the reader's system is and dark where that is dark."""
    page = html.render(shop(), zone=UTC)
    shades = []
    for scheme in (1, 0):  # Chromium's numbers for a light and a dark system
        picture = tmp_path / f"{scheme}.png"
        browse(
            page, f"--screenshot={picture}", "--window-size=1000,900", f"--blink-settings=preferredColorScheme={scheme}"
        )
        shades.append(first_pixel(picture.read_bytes()))
    light, dark = shades
    assert min(light) > 220
    assert max(dark) < 50


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_page_does_not_scroll_sideways(browse: Browse, width: int) -> None:
    """On a phone as on a desk, nothing is wider than the page; a probe in a page around it measures that."""
    inner = html.render(hostile("http://nowhere.invalid"), zone=UTC)
    inner = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", inner).replace("<details", "<details open")
    probe = "<script>document.title = document.documentElement.scrollWidth</script>"
    frame = inner.replace("</body>", f"{probe}</body>").replace("&", "&amp;").replace('"', "&quot;")
    outer = (
        f'<iframe width={width} height=2000 style="border:0" srcdoc="{frame}" '
        "onload=\"document.title = 'width ' + this.contentDocument.title\"></iframe>"
    )
    dom, _ = browse(outer, "--dump-dom", "--window-size=1400,2200")
    measured = re.search(r"<title>width (\d+)</title>", dom)
    assert measured is not None
    assert int(measured[1]) <= width


def first_pixel(png: bytes) -> tuple[int, ...]:
    """Return red, green and blue of a PNG's first pixel (8 bits a channel; there no filter of PNG changes a value)."""
    data, at = b"", 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += 12 + size
    return tuple(zlib.decompressobj().decompress(data, 4)[1:4])
