"""Run the benches and write `bench/results.md`: python -m bench.run DATE [BENCH ...].

A bench is a module of this folder with `rows() -> list[Row]`. One that fails is named in the results, and the others go on.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench.row import HEAD, Row
from scripts import engine
from scripts.engine import Engine

BENCHES = ("start", "tree", "graph", "process", "container", "server")
RESULTS = Path(__file__).with_name("results.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names and write the results where it named nothing; 1 when a bench failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__.splitlines()[0])
    parser.add_argument("date", help="the day to put on the results, as 2024-12-31")
    parser.add_argument(
        "benches", nargs="*", metavar="BENCH", help=f"of {', '.join(BENCHES)}; all, and kept, by default"
    )
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.benches) - set(BENCHES):
        parser.error(f"unknown bench {', '.join(sorted(unknown))}; there is {', '.join(BENCHES)}")
    rows, failures = collect(chosen.benches or BENCHES)
    text = render(chosen.date, describe_machine(), rows, failures)
    sys.stdout.write(text)
    if not chosen.benches:
        RESULTS.write_text(text)
    return 1 if failures else 0


def collect(names: Sequence[str]) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of these benches, and of those that failed why."""
    rows: list[Row] = []
    failures: dict[str, str] = {}
    for name in names:
        sys.stderr.write(f"bench: {name}\n")
        try:
            rows += importlib.import_module(f"bench.{name}").rows()
        except Exception as error:
            traceback.print_exc()
            failures[name] = " ".join(str(error).split())[:300] or type(error).__name__
    return rows, failures


def describe_machine() -> str:
    """Return in one sentence what the figures were measured on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    parts = [
        f"{os.cpu_count()} cores of {cpu}",
        f"{memory_gb:.0f} GB",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
    ]
    if address := engine.find():
        api = Engine(address)
        info = api.call("GET", "/info")
        api.close()
        parts.append(f"Docker {info['ServerVersion']} ({info['Driver']}, cgroup v{info['CgroupVersion']})")
    return ", ".join(parts)


def render(date: str, machine: str, rows: Sequence[Row], failures: dict[str, str]) -> str:
    """Return the results in Markdown."""
    lines = [
        "# Measures",
        "",
        f"Made by `make bench` on {date}: {machine}.",
        "Medians of several rounds; floor and subject take turns, so that both see the same machine. Look at the ratios:",
        "the seconds are this machine's.",
        "",
        *("| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows))),
        *([""] if failures else []),
        *(f"- `{name}` failed: {why}" for name, why in failures.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
