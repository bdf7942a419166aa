"""`stretto artifacts`: lists, and downloads that stay where they belong."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from stretto.core.errors import InputError, NotFoundError, StoreError
from stretto.core.events import Artifact
from stretto.doors.cli.download import Done, download, plan_download
from stretto.waist import StoredArtifact, Waist
from tests.unit.doors.cli.conftest import Said


def stored(
    tmp_path: Path, path: str, *, link: str | None = None, data: bytes = b"data", job: str = "j"
) -> StoredArtifact:
    """Return an artifact of a job, its bytes in a file of the store."""
    source = tmp_path / "store" / f"{abs(hash((path, data)))}"
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return StoredArtifact(job, 1, Artifact(path, len(data), digest, link=link), None if link else source)


class Files:
    """As much of the waist as a download needs; `gone` is a path whose bytes are not to be had."""

    def __init__(self, gone: str | None = None) -> None:
        self._gone = gone

    async def artifact_data(self, stored: StoredArtifact) -> AsyncIterator[bytes]:
        """Yield the bytes of the file, one by one."""
        if stored.artifact.path == self._gone:
            raise NotFoundError("gone")
        assert stored.path is not None
        for byte in stored.path.read_bytes():
            yield bytes([byte])


def fetch(artifacts: list[StoredArtifact], directory: Path, *, gone: str | None = None) -> dict[str, Done]:
    """Download and return what became of each path."""
    plan = plan_download(artifacts, directory, by_job=False)
    done = asyncio.run(download(cast("Waist", Files(gone)), plan, directory))
    return {it.stored.artifact.path: what for it, what in done}


def test_artifacts_are_listed(stretto: Callable[..., Said]) -> None:
    """Files and links of all jobs are there, for people and for machines."""
    assert [line.split(maxsplit=3)[3] for line in stretto("artifacts", "1").text.splitlines()[1:]] == [
        "out/inside -> plain.txt",
        "out/plain.txt",
        "out/tool*",
    ]
    rows = json.loads(stretto("artifacts", "1", "--json").out)
    assert [(row["job"], row["path"], row["executable"], row["link"]) for row in rows] == [
        ("compile", "out/inside", False, "plain.txt"),
        ("compile", "out/plain.txt", False, None),
        ("compile", "out/tool", True, None),
    ]
    assert stretto("artifacts", "latest").text == "No artifacts.\n"
    assert stretto("artifacts", "latest", "--json").text == "[]\n"


def test_download_keeps_content_mode_and_links(stretto: Callable[..., Said], tmp_path: Path) -> None:
    """What arrives is what the job left; a second time nothing changes, and it says so."""
    out = tmp_path / "out"
    assert stretto("artifacts", "1", "--download", out).code == 0
    folder = out / "compile/out"
    assert (folder / "plain.txt").read_text() == "data\n"
    assert (folder / "tool").stat().st_mode & 0o777 == 0o755
    assert (folder / "plain.txt").stat().st_mode & 0o777 == 0o644
    assert (folder / "inside").readlink() == Path("plain.txt")
    again = json.loads(stretto("artifacts", "1", "--download", out, "--json").out)
    assert {row["done"] for row in again} == {"unchanged"}


def test_download_of_a_job_needs_no_folder_of_its_own(stretto: Callable[..., Said], tmp_path: Path) -> None:
    """With --job paths begin in the directory itself."""
    said = stretto("artifacts", "1", "--job", "compile", "--download", tmp_path / "out")
    assert said.code == 0
    assert said.text.startswith("3 files, ")
    assert (tmp_path / "out/out/plain.txt").read_text() == "data\n"
    again = stretto("artifacts", "1", "--job", "compile", "--download", tmp_path / "out", "-v").text
    assert f"unchanged: {tmp_path}/out/out/plain.txt\n" in again
    assert again.endswith("; 3 of them were there already\n")


def test_download_touches_nothing_where_something_differs(stretto: Callable[..., Said], tmp_path: Path) -> None:
    """A file of other content stays as it is, nothing else is written, and the exit code is 2."""
    (tmp_path / "compile/out").mkdir(parents=True)
    (tmp_path / "compile/out/plain.txt").write_text("mine")
    said = stretto("artifacts", "1", "--download", tmp_path)
    assert (said.code, said.out) == (2, b"")
    assert f"{tmp_path}/compile/out/plain.txt; nothing was written" in said.err
    assert [path.name for path in (tmp_path / "compile/out").iterdir()] == ["plain.txt"]
    assert (tmp_path / "compile/out/plain.txt").read_text() == "mine"


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", ".", ""])
def test_download_refuses_paths_that_leave(tmp_path: Path, path: str) -> None:
    """A path that leads out is refused before anything is written."""
    directory = tmp_path / "out"
    with pytest.raises(InputError, match="would leave"):
        plan_download([stored(tmp_path, "good"), stored(tmp_path, path)], directory, by_job=False)
    assert not directory.exists()


def test_download_follows_no_link_out_that_is_there_already(tmp_path: Path) -> None:
    """A folder that is a link to elsewhere is not written through."""
    directory, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    directory.mkdir()
    elsewhere.mkdir()
    (directory / "a").symlink_to(elsewhere)
    with pytest.raises(InputError, match="would leave"):
        fetch([stored(tmp_path, "a/file")], directory)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "links",
    [
        {"l": "../outside"},
        {"l": "/etc/passwd"},
        {"l": "d/e/.."},
        {"a/l": "../../outside"},
    ],
    ids=str,
)
def test_download_leaves_out_links_that_lead_out(tmp_path: Path, links: dict[str, str]) -> None:
    """Where a link really leads is what counts, other links on its way included."""
    directory = tmp_path / "out"
    artifacts = [stored(tmp_path, path, link=target) for path, target in links.items()]
    if "d/e/.." in links.values():
        artifacts.append(stored(tmp_path, "d/e", link=".."))  # d/e/.. reads like d, and is above the directory
    done = fetch([*artifacts, stored(tmp_path, "file")], directory)
    assert {path: done[path] for path in links} == dict.fromkeys(links, Done.LEFT_OUT)
    assert done["file"] is Done.WRITTEN
    assert not any((directory / path).is_symlink() for path in links)


def test_download_refuses_one_path_of_two_contents(tmp_path: Path) -> None:
    """Two artifacts that would come to lie at one place are told, not mixed."""
    artifacts = [stored(tmp_path, "b/x", job="a"), stored(tmp_path, "x", job="a/b", data=b"other")]
    with pytest.raises(InputError, match="with another content"):
        plan_download(artifacts, tmp_path / "out", by_job=True)


def test_download_where_nothing_can_be_written_is_an_input_error(tmp_path: Path) -> None:
    """A file in the way of a folder is told as what it is."""
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "a").write_text("a file")
    with pytest.raises(InputError, match="can't be written"):
        fetch([stored(tmp_path, "a/file")], directory)
    assert (directory / "a").read_text() == "a file"


def test_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """Of three files the last can't be had: no file, no part of one and no folder is there afterwards."""
    directory = tmp_path / "out"
    with pytest.raises(NotFoundError, match="gone"):
        fetch([stored(tmp_path, f"a/{name}") for name in "xyz"], directory, gone="a/z")
    assert not directory.exists()


def test_download_refuses_bytes_that_are_not_those_of_the_job(tmp_path: Path) -> None:
    """What arrives with another digest is no artifact: nothing is written."""
    right = stored(tmp_path, "file")
    wrong = replace(right, artifact=replace(right.artifact, digest="0" * 64))
    with pytest.raises(StoreError, match="other bytes"):
        fetch([wrong], tmp_path / "out")
    assert not (tmp_path / "out").exists()
