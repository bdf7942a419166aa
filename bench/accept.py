"""How fast a server takes submissions, against the same rows inserted by as many connections."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from bench.cluster import database, make_token, module, result, serve
from bench.row import Row

CLIENTS = 32
REQUESTS = 1_600
ROUNDS = 5
"""Beside one to warm up."""


def row(*, sync_us: int = 0, told: str = "") -> Row:
    """Take turns; the callers and the inserting connections are a process each."""
    floors, measured = [], []
    with tempfile.TemporaryDirectory() as name, database(sync_us=sync_us) as url:
        home = Path(name)
        token = make_token(home, url)
        with serve("api", home, url) as server:
            address = server.read_line()
            for _ in range(ROUNDS + 1):
                floors += _turn("insert", url, "run", CLIENTS, REQUESTS)
                measured += _turn("caller", address, CLIENTS, REQUESTS, STRETTO_TOKEN=token)
    return Row(
        f"{REQUESTS} `POST /runs` of {CLIENTS} clients{told}",
        f"as many rows inserted with commit by {CLIENTS} connections",
        median(floors[1:]),
        median(measured[1:]),
        times=3.0,
    )


def _turn(name: str, *arguments: str | int, **variables: str) -> list[float]:
    with module(name, *arguments, **variables) as process:
        process.read_line()
        return result(process)
