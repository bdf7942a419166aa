"""Each pipeline of `examples/` is run by the real program, as processes and in containers, and gives what its file says."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Result, jobs_of, run_cli
from tests.support.python_image import python_image
from tests.support.repository import EXAMPLES, copy_example, git

DRIVERS = ["process", pytest.param("docker", marks=pytest.mark.docker)]


class Shop:
    """A fresh copy of an example, a fresh home, and the commands of one driver on them."""

    def __init__(self, path: Path, driver: str) -> None:
        self.path = path
        self.home = path.parent / "home"
        self.driver = driver

    def run(self, *arguments: str) -> Result:
        """Run the pipeline, with `--json`."""
        chosen = ["--driver", self.driver]
        if self.driver == "docker":
            chosen += ["--set", f"default.image={python_image()}"]
        return self.cli("run", "--json", *chosen, *arguments)

    def cli(self, *arguments: str | Path) -> Result:
        """Run another command in the repository."""
        return run_cli(arguments, self.path, self.home)

    def download(self) -> dict[str, bytes]:
        """Download the artifacts of run 1 and return them by path."""
        target = self.path.parent / "download"
        result = self.cli("artifacts", "1", "--download", target)
        assert result.code == 0, result.err
        files = (file for file in target.rglob("*") if file.is_file())
        return {str(file.relative_to(target)): file.read_bytes() for file in files}


def open_shop(name: str, tmp_path: Path, driver: str) -> Shop:
    """Return the example, copied into a repository of its own."""
    return Shop(copy_example(name, tmp_path / name), driver)


def at(value: str) -> datetime:
    """Return a report's time."""
    return datetime.fromisoformat(value)


def find(files: dict[str, bytes], path: str) -> bytes:
    """Return the one file that ends with `path` (downloads may keep a folder per job)."""
    matches = {content for name, content in files.items() if name == path or name.endswith(f"/{path}")}
    assert len(matches) == 1, f"{path}: {sorted(files)}"
    return matches.pop()


def statuses(report: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Return status and reason of each job."""
    return {name: (job["status"], job["reason"]) for name, job in jobs_of(report).items()}


@pytest.mark.parametrize("driver", DRIVERS)
def test_python_example_publishes_what_it_built(tmp_path: Path, driver: str) -> None:
    """The package passes through four stages, and what is published is what was built, tested and documented."""
    shop = open_shop("python", tmp_path, driver)
    result = shop.run()
    assert result.code == 0, result.err
    run = result.report["run"]
    assert (run["name"], run["status"], run["branch"]) == ("durations", "success", "main")
    assert run["commit"] == git(shop.path, "rev-parse", "HEAD")
    assert run["commit_message"].strip() == "Add the example python"
    assert [stage["name"] for stage in result.report["stages"]] == ["build", "test", "doc", "deploy"]
    assert set(statuses(result.report).values()) == {("success", None)}

    files = shop.download()
    assert find(files, "dist/durations.pyz") == find(files, "release/durations.pyz")
    assert find(files, "release/MANIFEST").split() == [b"durations.pyz", b"junit.xml", b"reference.md"]
    assert b'tests="4" failures="0"' in find(files, "reports/junit.xml")
    assert b"## parse(text: str) -> int" in find(files, "public/reference.md")
    assert "test_inverse" in shop.cli("logs", "1", "unit-tests").out
    assert git(shop.path, "status", "--porcelain") == ""


@pytest.mark.parametrize("driver", DRIVERS)
def test_monorepo_example_deploys_one_service_while_another_is_tested(tmp_path: Path, driver: str) -> None:
    """The site is deployed before the counter's long test is over; the announcement waits for all three."""
    shop = open_shop("monorepo", tmp_path, driver)
    result = shop.run("--jobs", "4")
    assert result.code == 0, result.err
    jobs = jobs_of(result.report)
    assert set(statuses(result.report).values()) == {("success", None)}
    assert at(jobs["deploy-site"]["ended_at"]) < at(jobs["test-counter"]["ended_at"])
    deployed = [at(jobs[f"deploy-{name}"]["ended_at"]) for name in ("site", "greeter", "counter")]
    assert max(deployed) <= at(jobs["announce"]["started_at"])

    files = shop.download()
    assert b'<a href="about.html">' in find(files, "site/deployed/public/index.html")
    assert find(files, "greeter/deployed/greeter.py") == (shop.path / "greeter/greeter.py").read_bytes()
    lines = find(files, "announcement.txt").decode().splitlines()
    assert [line.split()[0] for line in lines] == ["site", "greeter", "counter"]
    assert re.fullmatch(r"(\d+) visits, \1 counted", shop.cli("logs", "1", "test-counter").out.splitlines()[-1])


@pytest.mark.parametrize("driver", DRIVERS)
def test_failing_example_reports_each_reason(tmp_path: Path, driver: str) -> None:
    """The allowed failure lets the run go on, the retry succeeds, the real failure stops it, and clean-up still runs."""
    shop = open_shop("failing", tmp_path, driver)
    result = shop.run()
    assert result.code == 1, result.err
    assert (result.report["run"]["status"], result.report["run"]["reason"]) == ("failed", "job_failed")
    assert statuses(result.report) == {
        "compile": ("success", None),
        "lint": ("failed", "exit_code"),
        "lint-badge": ("skipped", "needs_failed"),
        "integration": ("success", None),
        "acceptance": ("failed", "exit_code"),
        "deploy": ("skipped", "run_stopped"),
        "diagnose": ("success", None),
        "tidy": ("success", None),
        "celebrate": ("skipped", "run_stopped"),
    }
    jobs = jobs_of(result.report)
    assert (jobs["lint"]["exit_code"], jobs["acceptance"]["exit_code"]) == (1, 1)
    tries = [(attempt["status"], attempt["exit_code"]) for attempt in jobs["integration"]["attempts"]]
    assert tries == [("failed", 75), ("success", 0)]
    assert len(jobs["acceptance"]["attempts"]) == 1

    log = shop.cli("logs", "1", "acceptance").out
    assert "FAIL: test_fraction" in log
    assert log.splitlines()[-1] == "tested on Linux"
    assert "connected at the second try" in shop.cli("logs", "1", "integration").out
    assert b"Python 3." in find(shop.download(), "diagnosis.txt")


@pytest.mark.parametrize("driver", DRIVERS)
def test_failing_example_is_reported_again(tmp_path: Path, driver: str) -> None:
    """`report --json` gives the report that `run --json` gave, and the text names the failed jobs."""
    shop = open_shop("failing", tmp_path, driver)
    first = shop.run().report
    again = shop.cli("report", "1", "--json").report
    for report in (first, again):  # when it was made is all that may differ
        assert at(report.pop("generated_at")) >= at(report["run"]["ended_at"])
    assert again == first
    text = shop.cli("report", "1").out
    assert all(name in text for name in ("acceptance", "lint-badge", "run_stopped"))


@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXAMPLES.glob("*/pipeline.yml")))
def test_example_passes_the_check(tmp_path: Path, name: str) -> None:
    """No example has a fault that `stretto check` finds."""
    result = open_shop(name, tmp_path, "process").cli("check")
    assert result.code == 0, result.out + result.err
