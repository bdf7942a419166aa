"""A forge that is told how its commits fared: which repositories are its own, how it is spoken to, where its token is.

A token is sent to `api_url` and nowhere else: nothing of a run or an answer has a say in where a request goes but the path of the
repository and the commit, which are quoted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from stretto.core.errors import InputError, SettingsError
from stretto.core.states import Status
from stretto.triggers.hook import KINDS
from stretto.triggers.order import check_texts

TOKEN_VARIABLE: Final = "STRETTO_FORGE_"
"""How the name of a variable with a token begins, so that no other variable of the server can be sent anywhere."""
TOKEN_FILES: Final = "forges"
"""The directory of the state's home in which a file with a token may be."""
MOST_DESCRIPTION: Final = 140
"""Characters that GitHub shows of a status."""


class State(StrEnum):
    """What a forge is told of a run."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELED = "canceled"


STATES: Final[dict[Status, State]] = {
    Status.PENDING: State.PENDING,
    Status.QUEUED: State.PENDING,
    Status.RUNNING: State.RUNNING,
    Status.WAITING: State.RUNNING,
    Status.SUCCESS: State.SUCCESS,
    Status.FAILED: State.FAILURE,
    Status.CANCELED: State.CANCELED,
    Status.SKIPPED: State.SUCCESS,
}

_GITHUB_STATES: Final = {State.RUNNING: "pending", State.CANCELED: "error"}
"""Where the words of GitHub, Gitea and Forgejo differ from ours."""
_GITLAB_STATES: Final = {State.FAILURE: "failed"}
_DEFAULT_URLS: Final = {
    "github": "https://{host}/api/v3",  # GitHub Enterprise Server; github.com has a host of its own
    "gitlab": "https://{host}/api/v4",
    "gitea": "https://{host}/api/v1",
    "forgejo": "https://{host}/api/v1",
}


@dataclass(frozen=True, slots=True)
class Forge:
    """Where statuses of the repositories at `host` go. One of `token`, `token_env`, `token_file` says what the token is.

    Only runs that a hook or schedule started are told of, since they run what the commit itself says, unless `every_run`.
    """

    host: str
    kind: str
    api_url: str
    token: str | None = field(default=None, repr=False)
    token_env: str | None = None
    token_file: str | None = None
    every_run: bool = False
    created_at: datetime | None = None

    def check(self) -> None:
        """Refuse what can't work; InputError."""
        if self.kind not in KINDS:
            raise InputError(f"{self.kind!r} is no kind of forge", hint=f"kinds: {', '.join(KINDS)}")
        if not re.fullmatch(r"[a-z0-9.:-]{1,253}", self.host) or self.host.startswith("-"):
            raise InputError(
                f"{self.host!r} is no host", hint="give the host as repositories' addresses have it, no port"
            )
        _check_url(self.api_url)
        if [self.token, self.token_env, self.token_file].count(None) != 2:
            raise InputError("a forge needs one of token, token_env and token_file")
        check_texts("token", [] if self.token is None else [self.token])
        if self.token_env is not None and not re.fullmatch(TOKEN_VARIABLE + "[A-Z0-9_]{1,100}", self.token_env):
            raise InputError(f"token_env: the variable's name must begin with {TOKEN_VARIABLE}")
        if self.token_file is not None and not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,100}", self.token_file):
            raise InputError(f"token_file: the name of a file in the directory {TOKEN_FILES} of the server's home")

    def read_token(self, home: Path) -> str:
        """Return the token, from where it is; SettingsError."""
        value: str | None = self.token
        if self.token_env is not None:
            value = os.environ.get(self.token_env)
        elif self.token_file is not None:
            path = home / TOKEN_FILES / self.token_file
            try:
                value = path.read_text("ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"the token of {self.host} can't be read from {path}: {error}") from error
        value = (value or "").strip()
        if not value or not value.isascii() or not value.isprintable():
            raise SettingsError(
                f"there is no token of {self.host} in {self.token_env or self.token_file or 'the store'}"
            )
        return value


@dataclass(frozen=True, slots=True)
class Report:
    """A status to send: of which commit, under which context, and what it says."""

    path: str
    commit: str
    context: str
    run: int
    state: State


@dataclass(frozen=True, slots=True)
class Call:
    """The request that sends a status."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    json: Mapping[str, Any] = field(default_factory=dict)


def default_url(kind: str, host: str) -> str:
    """Return where the API of a forge is unless it is told."""
    if kind == "github" and host == "github.com":
        return "https://api.github.com"
    return _DEFAULT_URLS.get(kind, "").format(host=host)


def call_of(forge: Forge, report: Report, *, token: str, server_url: str) -> Call:
    """Return the request that sends `report`; `server_url` is where people reach this server, empty if they can't.

    GitHub: docs.github.com, REST API, "Create a commit status". GitLab: docs.gitlab.com, "Commits API", "Set commit pipeline
    status". Gitea and Forgejo: `repoCreateStatus` of their OpenAPI document.
    """
    text = f"Run {report.run}: {report.state.value}"[:MOST_DESCRIPTION]
    body = {"description": text}
    if server_url:
        body["target_url"] = f"{server_url.rstrip('/')}/api/v1/runs/{report.run}/report"
    base = forge.api_url.rstrip("/")
    if forge.kind == "gitlab":
        body |= {"state": _GITLAB_STATES.get(report.state, report.state.value), "name": report.context}
        url = f"{base}/projects/{quote(report.path, safe='')}/statuses/{quote(report.commit, safe='')}"
        return Call(url, {"PRIVATE-TOKEN": token}, body)
    body |= {"state": _GITHUB_STATES.get(report.state, report.state.value), "context": report.context}
    url = f"{base}/repos/{quote(report.path, safe='/')}/statuses/{quote(report.commit, safe='')}"
    if forge.kind == "github":
        more = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        return Call(url, {"Authorization": f"Bearer {token}", **more}, body)
    return Call(url, {"Authorization": f"token {token}"}, body)


def is_path(kind: str, path: str) -> bool:
    """Say whether a repository's path can be one of this kind of forge: owner and name, on GitLab groups too."""
    parts = path.split("/")
    fits = len(parts) >= 2 if kind == "gitlab" else len(parts) == 2
    return fits and all(part not in ("", ".", "..") for part in parts)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("https", "http") or not url.isprintable() or " " in url:
        raise InputError(f"{url!r} is no URL of an API", hint="such as https://git.example.com/api/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError("the URL of an API has no user, question mark or hash", hint="the token is given apart")
