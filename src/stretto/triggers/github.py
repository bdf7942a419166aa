"""Webhooks of GitHub, and of Gitea and Forgejo, which took over its payloads.

GitHub: docs.github.com, "Webhook events and payloads". Gitea: docs.gitea.com, "Webhooks"; its `create` names the commit (`sha`),
its pushes say how many commits there were (`total_commits`) where it lists fewer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stretto.core.errors import InputError
from stretto.triggers.delivery import Delivery, Trigger, commit_at, files_of, need, ref_of, text_at, texts_at

MOST_COMMITS: Final = 2048
"""GitHub lists no more commits of a push than these."""
_CHANGES: Final = frozenset({"opened", "reopened", "synchronize", "synchronized"})
"""Actions of a pull request that come with commits to run; Gitea writes `synchronized`."""


def parse(event: str, data: Mapping[str, Any]) -> Delivery:
    """Return what the payload tells; InputError if it lacks what its event has."""
    known = _PARSERS.get(event)
    if known is None:
        return Delivery(event, _addresses(data, "repository"), ignored=f"a {event} event starts no run")
    return known(data)


def _ping(data: Mapping[str, Any]) -> Delivery:
    return Delivery("ping", ignored="a ping: the hook is set up")


def _push(data: Mapping[str, Any]) -> Delivery:
    trigger, name = ref_of(need(data, "ref"))
    commit = commit_at(data, "head_commit", "id") or commit_at(data, "after")  # of an annotated tag, `after` is the tag
    ignored = None
    if trigger is None:
        ignored = f"{name} is neither a branch nor a tag"
    elif data.get("deleted") is True or commit_at(data, "after") is None:
        commit, ignored = None, f"{name} was deleted"
    return Delivery(
        event="push",
        repositories=_addresses(data, "repository"),
        trigger=trigger,
        branch=name,
        target=name,
        commit=commit,
        files=_files(data),
        sender=_sender(data),
        ignored=ignored,
    )


def _files(data: Mapping[str, Any]) -> frozenset[str] | None:
    """Return what a push changed; unknown where commits are left out, or were taken away by a forced push."""
    commits = data.get("commits")
    total = data.get("total_commits", 0)  # Gitea
    if data.get("forced") is True or not isinstance(commits, list) or not isinstance(total, int):
        return None
    return None if len(commits) >= MOST_COMMITS or total > len(commits) else files_of(commits)


def _create(data: Mapping[str, Any]) -> Delivery:
    name = need(data, "ref")
    kind = need(data, "ref_type")
    return Delivery(
        event="create",
        repositories=_addresses(data, "repository"),
        trigger=Trigger.CREATE,
        branch=name,
        target=name,
        commit=commit_at(data, "sha"),
        sender=_sender(data),
        ignored=None if kind in ("branch", "tag") else f"a {kind} is neither a branch nor a tag",
    )


def _delete(data: Mapping[str, Any]) -> Delivery:
    name = need(data, "ref")
    return Delivery("delete", _addresses(data, "repository"), sender=_sender(data), ignored=f"{name} was deleted")


def _pull_request(data: Mapping[str, Any]) -> Delivery:
    action = need(data, "action")
    request = data.get("pull_request")
    if not isinstance(request, Mapping):
        raise InputError("the payload has no pull_request")
    head, base = _addresses(request, "head", "repo"), _addresses(data, "repository")
    ignored = None
    if action not in _CHANGES:
        ignored = f"a pull request that is {action} starts no run"
    elif not set(head) & set(base):
        ignored = "a pull request from another repository: anybody could write what would run here"
    return Delivery(
        event="pull_request",
        repositories=base,
        trigger=Trigger.PULL_REQUEST,
        branch=need(request, "head", "ref"),
        target=need(request, "base", "ref"),
        commit=commit_at(request, "head", "sha"),
        sender=_sender(data),
        ignored=ignored,
    )


_PARSERS: Final = {"ping": _ping, "push": _push, "create": _create, "delete": _delete, "pull_request": _pull_request}


def _addresses(data: Mapping[str, Any], *path: str) -> tuple[str, ...]:
    return texts_at(data, *((*path, key) for key in ("clone_url", "ssh_url", "html_url")))


def _sender(data: Mapping[str, Any]) -> str:
    return text_at(data, "sender", "login") or text_at(data, "pusher", "name") or ""
