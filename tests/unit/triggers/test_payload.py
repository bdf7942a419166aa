"""What forges tell, in one form for all of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from stretto.core.errors import InputError
from stretto.triggers.delivery import Trigger
from stretto.triggers.receiver import parse
from tests.unit.triggers import payload
from tests.unit.triggers.payload import NEW, NOTHING, TAG_OBJECT

FILES = frozenset({"README.md", "src/count.py", "src/old.py"})
HEADERS = {
    "github": "x-github-event",
    "gitea": "x-gitea-event",
    "forgejo": "x-forgejo-event",
    "gitlab": "x-gitlab-event",
}


def told(kind: str, event: str, data: dict[str, Any]) -> Any:
    """What is made of a payload."""
    return parse(kind, {HEADERS[kind]: event}, payload.body_of(data))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("github", payload.github_push()),
        ("gitea", payload.gitea_push()),
        ("forgejo", payload.gitea_push()),
        ("gitlab", payload.gitlab_push()),
    ],
)
def test_push_names_branch_commit_and_all_changed_files(kind: str, data: dict[str, Any]) -> None:
    """A push of two commits is the same on every forge."""
    delivery = told(kind, "push", data)
    assert (delivery.trigger, delivery.branch, delivery.target) == (Trigger.PUSH, "main", "main")
    assert (delivery.commit, delivery.files, delivery.sender, delivery.ignored) == (NEW, FILES, "ada", None)
    assert any(address.endswith("/words.git") for address in delivery.repositories)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("github", payload.github_push(ref="refs/tags/v1.2.0", after=TAG_OBJECT, before=NOTHING, commits=[])),
        ("gitea", payload.gitea_push(ref="refs/tags/v1.2.0", before=NOTHING, commits=[], total_commits=0)),
        ("gitlab", payload.gitlab_tag()),
    ],
)
def test_pushed_tag_names_the_commit_it_points_to(kind: str, data: dict[str, Any]) -> None:
    """The commit of an annotated tag is the commit, not the tag, and what it changes is not known."""
    delivery = told(kind, "push", data)
    assert (delivery.trigger, delivery.branch, delivery.commit) == (Trigger.TAG, "v1.2.0", NEW)
    assert delivery.files is None
    assert delivery.ignored is None


@pytest.mark.parametrize(
    ("kind", "data", "commit"), [("github", payload.github_create(), None), ("gitea", payload.gitea_create(), NEW)]
)
def test_created_tag_is_a_trigger_of_its_own(kind: str, data: dict[str, Any], commit: str | None) -> None:
    """It comes besides the push, so that only hooks that ask for it are started by it."""
    delivery = told(kind, "create", data)
    assert (delivery.trigger, delivery.branch, delivery.commit, delivery.ignored) == (
        *(Trigger.CREATE, "v1.2.0", commit),
        None,
    )


@pytest.mark.parametrize(
    ("kind", "event", "data"),
    [
        ("github", "push", payload.github_push(after=NOTHING, deleted=True, commits=[], head_commit=None)),
        ("github", "push", payload.github_push(deleted=True)),
        ("github", "delete", payload.github_create()),
        ("gitea", "push", payload.gitea_push(after=NOTHING, commits=[], head_commit=None)),
        ("gitlab", "", payload.gitlab_push(after=NOTHING, checkout_sha=None, commits=[])),
        (
            "gitlab",
            "",
            payload.gitlab_push(object_kind="tag_push", ref="refs/tags/v1", after=NOTHING, checkout_sha=None),
        ),
    ],
)
def test_deleted_branch_or_tag_is_ignored(kind: str, event: str, data: dict[str, Any]) -> None:
    """Nothing is there to run, and the answer says so."""
    delivery = told(kind, event, data)
    assert delivery.ignored is not None
    assert delivery.ignored.endswith("was deleted")
    assert delivery.commit is None


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("github", payload.github_push(forced=True)),
        ("github", payload.github_push(commits=[])),
        ("github", payload.github_push(commits=[payload.COMMITS[0]] * 2048)),
        ("github", payload.github_push(commits=[{"id": NEW}])),
        ("github", payload.github_push(commits="many")),
        ("gitea", payload.gitea_push(total_commits=3)),
        ("gitlab", payload.gitlab_push(total_commits_count=21)),
        ("gitlab", payload.gitlab_push(total_commits_count=None)),
    ],
)
def test_changed_files_are_unknown_where_the_forge_leaves_some_out(kind: str, data: dict[str, Any]) -> None:
    """Files that were left out are not taken for files that did not change."""
    assert told(kind, "push", data).files is None


@pytest.mark.parametrize(
    ("kind", "event", "data"),
    [
        *[
            ("github", "pull_request", payload.github_pull_request(action=it))
            for it in ("opened", "reopened", "synchronize")
        ],
        ("gitea", "pull_request", payload.github_pull_request(action="synchronized")),
        ("gitlab", "", payload.gitlab_merge_request()),
        ("gitlab", "", payload.gitlab_merge_request(action="update", oldrev=payload.OLD)),
    ],
)
def test_pull_request_runs_its_branch_and_aims_at_another(kind: str, event: str, data: dict[str, Any]) -> None:
    """What runs is the request's own commit; patterns are held against the branch it goes to."""
    delivery = told(kind, event, data)
    assert (delivery.trigger, delivery.branch, delivery.target) == (Trigger.PULL_REQUEST, "faster", "main")
    assert (delivery.commit, delivery.files, delivery.ignored) == (NEW, None, None)


@pytest.mark.parametrize(
    ("kind", "event", "data", "why"),
    [
        ("github", "pull_request", payload.github_pull_request(fork=True), "another repository"),
        ("gitlab", "", payload.gitlab_merge_request(source_project_id=77), "another project"),
        ("gitlab", "", payload.gitlab_merge_request(source_project_id=None, target_project_id=None), "another project"),
        ("github", "pull_request", payload.github_pull_request(action="labeled"), "labeled"),
        ("gitlab", "", payload.gitlab_merge_request(action="update"), "without new commits"),
        ("github", "ping", payload.github_ping(), "ping"),
        ("github", "issues", {"action": "opened", "repository": payload.github_repository()}, "issues event"),
        ("gitlab", "", {"object_kind": "note", "project": payload.gitlab_project()}, "note event"),
        ("github", "push", payload.github_push(ref="refs/notes/commits"), "neither a branch nor a tag"),
    ],
)
def test_what_starts_no_run_says_why(kind: str, event: str, data: dict[str, Any], why: str) -> None:
    """Pull requests from forks above all: whoever writes one must not write what runs here."""
    assert why in (told(kind, event, data).ignored or "")


@pytest.mark.parametrize(
    ("kind", "event", "data"),
    [
        ("github", "push", {}),
        ("github", "push", payload.github_push(ref=7)),
        ("github", "push", payload.github_push(ref="refs/heads/a\x00b")),
        ("github", "push", payload.github_push(ref="refs/heads/\ud800")),
        ("github", "push", payload.github_push(ref="refs/heads/" + "x" * 2000)),
        ("github", "push", payload.github_push(after="main", head_commit=None)),
        ("github", "push", payload.github_push(head_commit={"id": "--upload-pack=x"})),
        ("github", "pull_request", {"action": "opened", "pull_request": []}),
        ("gitlab", "", {"object_kind": "merge_request", "object_attributes": "x"}),
        ("gitlab", "", payload.gitlab_push(ref=None)),
    ],
)
def test_payload_that_is_none_of_its_event_is_refused(kind: str, event: str, data: dict[str, Any]) -> None:
    """What is missing, of the wrong type or no name is bad input, never a fault of ours."""
    with pytest.raises(InputError):
        told(kind, event, data)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'"push"'])
@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_body_that_is_no_json_object_is_refused(kind: str, body: bytes) -> None:
    """A signed body may still be anything."""
    with pytest.raises(InputError):
        parse(kind, {"x-github-event": "push"}, body)


def test_github_form_holds_the_same_payload() -> None:
    """GitHub sends a form unless it is told to send JSON."""
    headers = {"x-github-event": "push", "content-type": "application/x-www-form-urlencoded"}
    body = urlencode({"payload": payload.body_of(payload.github_push()).decode()}).encode()
    assert parse("github", headers, body).commit == NEW
    with pytest.raises(InputError):
        parse("github", headers, b"other=1")
