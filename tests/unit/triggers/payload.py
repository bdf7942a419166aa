"""Payloads as forges send them, cut to a few commits, and the headers they come with, signed by the forge's own rule."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from typing import Any

OLD = "8f14e45fceea167a5a36dedd4bea2543aa6f1c07"
NEW = "c9f0f895fb98ab9159f51fd0297e236d1e8a7b21"
TAG_OBJECT = "45c48cce2e2d7fbdea1afc51c7c6ad26b7e5a0d9"
NOTHING = "0" * 40

GITHUB_SECRET = "7d3c5e9a1b8f4026d3c5e9a1b8f40267"
GITLAB_TOKEN = "glhook-1f0e3dad99908345f7439f8f"
GITLAB_SIGNING = "whsec_" + b64encode(b"0123456789abcdef0123456789abcdef").decode()

COMMITS = [
    {
        "id": OLD[::-1],
        "message": "Count words in one pass\n",
        "timestamp": "2026-03-02T09:14:55+01:00",
        "author": {"name": "Ada", "email": "ada@example.com"},
        "added": ["src/count.py"],
        "removed": [],
        "modified": ["README.md"],
    },
    {
        "id": NEW,
        "message": "Drop the old counter\n",
        "timestamp": "2026-03-02T09:20:01+01:00",
        "author": {"name": "Ada", "email": "ada@example.com"},
        "added": [],
        "removed": ["src/old.py"],
        "modified": ["src/count.py"],
    },
]


def github_repository(host: str = "github.com") -> dict[str, Any]:
    """The part of a payload that says which repository it is about; Gitea's has the same keys."""
    return {
        "id": 526_301_771,
        "name": "words",
        "full_name": "Acme/words",
        "private": True,
        "owner": {"login": "Acme", "id": 9919},
        "html_url": f"https://{host}/Acme/words",
        "git_url": f"git://{host}/Acme/words.git",
        "ssh_url": f"git@{host}:Acme/words.git",
        "clone_url": f"https://{host}/Acme/words.git",
        "default_branch": "main",
    }


def github_push(**changes: Any) -> dict[str, Any]:
    """A push of two commits to `main`."""
    return {
        "ref": "refs/heads/main",
        "before": OLD,
        "after": NEW,
        "repository": github_repository(),
        "pusher": {"name": "ada", "email": "ada@example.com"},
        "sender": {"login": "ada", "id": 21_031_067, "type": "User"},
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"https://github.com/Acme/words/compare/{OLD[:12]}...{NEW[:12]}",
        "commits": COMMITS,
        "head_commit": COMMITS[1],
    } | changes


def github_create(**changes: Any) -> dict[str, Any]:
    """A tag that was made, as GitHub tells of it: without its commit."""
    return {
        "ref": "v1.2.0",
        "ref_type": "tag",
        "master_branch": "main",
        "description": None,
        "pusher_type": "user",
        "repository": github_repository(),
        "sender": {"login": "ada", "id": 21_031_067, "type": "User"},
    } | changes


def github_pull_request(*, fork: bool = False, **changes: Any) -> dict[str, Any]:
    """A pull request of `faster` into `main`."""
    head = github_repository()
    if fork:
        head = json.loads(json.dumps(head).replace("Acme/words", "mallory/words"))
    return {
        "action": "opened",
        "number": 12,
        "pull_request": {
            "id": 1_745_220_113,
            "number": 12,
            "state": "open",
            "title": "Count faster",
            "head": {"label": "Acme:faster", "ref": "faster", "sha": NEW, "repo": head},
            "base": {"label": "Acme:main", "ref": "main", "sha": OLD, "repo": github_repository()},
            "merged": False,
        },
        "repository": github_repository(),
        "sender": {"login": "ada", "id": 21_031_067, "type": "User"},
    } | changes


def github_ping() -> dict[str, Any]:
    """What GitHub sends when a hook was set up."""
    return {
        "zen": "Keep it logically awesome.",
        "hook_id": 413_203_144,
        "hook": {"type": "Repository", "active": True, "events": ["push"]},
        "repository": github_repository(),
        "sender": {"login": "ada", "id": 21_031_067, "type": "User"},
    }


def gitea_push(**changes: Any) -> dict[str, Any]:
    """A push of two commits to `main`, as Gitea and Forgejo tell of it."""
    return {
        "ref": "refs/heads/main",
        "before": OLD,
        "after": NEW,
        "compare_url": f"https://git.example.com/Acme/words/compare/{OLD}...{NEW}",
        "commits": COMMITS[::-1],
        "total_commits": 2,
        "head_commit": COMMITS[1],
        "repository": github_repository("git.example.com"),
        "pusher": {"id": 3, "login": "ada", "email": "ada@example.com", "username": "ada"},
        "sender": {"id": 3, "login": "ada", "email": "ada@example.com", "username": "ada"},
    } | changes


def gitea_create(**changes: Any) -> dict[str, Any]:
    """A tag that was made, as Gitea tells of it: with its commit."""
    return {
        "sha": NEW,
        "ref": "v1.2.0",
        "ref_type": "tag",
        "repository": github_repository("git.example.com"),
        "sender": {"id": 3, "login": "ada", "username": "ada"},
    } | changes


def gitlab_project() -> dict[str, Any]:
    """The part of a payload that says which project it is about."""
    return {
        "id": 15,
        "name": "Words",
        "web_url": "https://gitlab.example.com/acme/tools/words",
        "git_ssh_url": "git@gitlab.example.com:acme/tools/words.git",
        "git_http_url": "https://gitlab.example.com/acme/tools/words.git",
        "namespace": "Tools",
        "path_with_namespace": "acme/tools/words",
        "default_branch": "main",
    }


def gitlab_push(**changes: Any) -> dict[str, Any]:
    """A push of two commits to `main`."""
    return {
        "object_kind": "push",
        "event_name": "push",
        "before": OLD,
        "after": NEW,
        "ref": "refs/heads/main",
        "ref_protected": True,
        "checkout_sha": NEW,
        "user_id": 4,
        "user_name": "Ada",
        "user_username": "ada",
        "project_id": 15,
        "project": gitlab_project(),
        "commits": COMMITS,
        "total_commits_count": 2,
    } | changes


def gitlab_tag(**changes: Any) -> dict[str, Any]:
    """An annotated tag that was pushed."""
    return gitlab_push(
        object_kind="tag_push",
        event_name="tag_push",
        before=NOTHING,
        after=TAG_OBJECT,
        ref="refs/tags/v1.2.0",
        commits=[],
        total_commits_count=0,
        **changes,
    )


def gitlab_merge_request(**attributes: Any) -> dict[str, Any]:
    """A merge request of `faster` into `main` that was opened."""
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": {"id": 4, "name": "Ada", "username": "ada"},
        "project": gitlab_project(),
        "object_attributes": {
            "id": 99,
            "iid": 1,
            "target_branch": "main",
            "source_branch": "faster",
            "source_project_id": 15,
            "target_project_id": 15,
            "state": "opened",
            "action": "open",
            "last_commit": {"id": NEW, "message": "Count faster\n"},
        }
        | attributes,
    }


def body_of(payload: dict[str, Any]) -> bytes:
    """The payload as bytes."""
    return json.dumps(payload).encode()


def digest(secret: str, body: bytes) -> str:
    """The hex HMAC-SHA256 of the body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def github_headers(
    body: bytes, *, event: str = "push", secret: str = GITHUB_SECRET, delivery: str = ""
) -> dict[str, str]:
    """What GitHub sends with a body."""
    return {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": delivery or "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-hub-signature-256": f"sha256={digest(secret, body)}",
    }


def gitea_headers(
    body: bytes, *, event: str = "push", secret: str = GITHUB_SECRET, kind: str = "gitea"
) -> dict[str, str]:
    """What Gitea or Forgejo sends with a body: its own headers, and some of GitHub's."""
    identity = "f6266f16-1bf3-46a5-9ea4-602e06ead473"
    told = {"x-gitea-delivery": identity, "x-gitea-event": event, "x-gitea-signature": digest(secret, body)}
    if kind == "forgejo":
        told |= {"x-forgejo-delivery": identity, "x-forgejo-event": event, "x-forgejo-signature": digest(secret, body)}
    return {"x-github-event": event, "x-hub-signature-256": f"sha256={digest(secret, body)}"} | told


def gitlab_headers(
    *, token: str = GITLAB_TOKEN, delivery: str = "2ec1d0b3-6a14-4a32-a5d2-c2a8a8a7c2c1"
) -> dict[str, str]:
    """What GitLab sends with a body when the hook has a secret token."""
    return {
        "x-gitlab-event": "Push Hook",
        "x-gitlab-event-uuid": "13792a34-cac6-4fda-95a8-c58e00a3954e",
        "idempotency-key": delivery,
        "x-gitlab-token": token,
    }


def gitlab_signed_headers(
    body: bytes, at: float, *, secret: str = GITLAB_SIGNING, delivery: str = "2ec1d0b3-6a14-4a32-a5d2-c2a8a8a7c2c1"
) -> dict[str, str]:
    """What GitLab sends with a body when the hook has a signing token: the scheme of Standard Webhooks."""
    key = b64decode(secret.removeprefix("whsec_"))
    signed = f"{delivery}.{int(at)}.".encode() + body
    signature = b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "x-gitlab-event": "Push Hook",
        "webhook-id": delivery,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": f"v1,{signature}",
    }
