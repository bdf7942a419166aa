"""Webhooks of GitLab: docs.gitlab.com, "Webhook events". The event is in the payload's `object_kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stretto.core.errors import InputError
from stretto.triggers.delivery import Delivery, Trigger, commit_at, files_of, need, ref_of, text_at, texts_at

_ADDRESSES: Final = ("git_http_url", "git_ssh_url", "web_url", "http_url", "ssh_url")
_OPENED: Final = frozenset({"open", "reopen"})


def parse(data: Mapping[str, Any]) -> Delivery:
    """Return what the payload tells; InputError if it lacks what its event has."""
    kind = text_at(data, "object_kind") or text_at(data, "event_name") or "unnamed"
    if kind in ("push", "tag_push"):
        return _push(kind, data)
    if kind == "merge_request":
        return _merge_request(data)
    return Delivery(kind, _addresses(data, "project"), ignored=f"a {kind} event starts no run")


def _push(kind: str, data: Mapping[str, Any]) -> Delivery:
    trigger, name = ref_of(need(data, "ref"))
    commit = commit_at(data, "checkout_sha")  # of an annotated tag, `after` is the tag
    ignored = None
    if trigger is None:
        ignored = f"{name} is neither a branch nor a tag"
    elif commit_at(data, "after") is None:
        commit, ignored = None, f"{name} was deleted"
    return Delivery(
        event=kind,
        repositories=_addresses(data, "project"),
        trigger=trigger,
        branch=name,
        target=name,
        commit=commit,
        files=_files(data),
        sender=text_at(data, "user_username") or "",
        ignored=ignored,
    )


def _files(data: Mapping[str, Any]) -> frozenset[str] | None:
    """Return what a push changed; unknown where the payload has only the newest of its commits (20)."""
    commits, total = data.get("commits"), data.get("total_commits_count")
    if not isinstance(commits, list) or not isinstance(total, int) or total > len(commits):
        return None
    return files_of(commits)


def _merge_request(data: Mapping[str, Any]) -> Delivery:
    request = data.get("object_attributes")
    if not isinstance(request, Mapping):
        raise InputError("the payload has no object_attributes")
    action = text_at(request, "action") or "told of"
    ignored = None
    if action not in _OPENED and not (action == "update" and text_at(request, "oldrev") is not None):
        ignored = f"a merge request that is {action} without new commits starts no run"
    elif request.get("source_project_id") is None or (
        request.get("source_project_id") != request.get("target_project_id")
    ):
        ignored = "a merge request from another project: anybody could write what would run here"
    return Delivery(
        event="merge_request",
        repositories=_addresses(data, "project"),
        trigger=Trigger.PULL_REQUEST,
        branch=need(request, "source_branch"),
        target=need(request, "target_branch"),
        commit=commit_at(request, "last_commit", "id"),
        sender=text_at(data, "user", "username") or "",
        ignored=ignored,
    )


def _addresses(data: Mapping[str, Any], *path: str) -> tuple[str, ...]:
    return texts_at(data, *((*path, key) for key in _ADDRESSES))
