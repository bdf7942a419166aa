"""What a hook or schedule asks for when it fires: checked once, kept as JSON texts, made a request each time."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from stretto.core.errors import InputError
from stretto.core.ports import RunRow
from stretto.triggers.place import place_of
from stretto.waist import RunRequest

Accept = Callable[[RunRequest], Awaitable[list[tuple[RunRow, bool]]]]
"""`service.accept`: stores what is asked for; a known idempotency key gives the runs that it had before."""

MOST_ITEMS: Final = 100
MOST_CHARACTERS: Final = 4096
MOST_PRIORITY: Final = 1000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. `repository` is an address as `run` takes it; what is None or empty is left to the repository."""

    repository: str
    pipelines: tuple[str, ...] = ()
    file: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    driver: str | None = None
    priority: int = 0

    def check(self) -> None:
        """Refuse what can't be kept or meant; InputError."""
        if place_of(self.repository) is None:
            raise InputError(f"{self.repository!r} is no address of a repository", hint="give a URL or user@host:path")
        check_texts("repository", [self.repository])
        check_texts("pipelines", self.pipelines)
        check_texts("file", [] if self.file is None else [self.file])
        check_texts("driver", [] if self.driver is None else [self.driver])
        check_texts("variables", [*self.variables], most=MOST_ITEMS)
        check_texts("variables", [*self.variables.values()], lines=True, empty=True)
        if abs(self.priority) > MOST_PRIORITY:
            raise InputError(f"priority must be from {-MOST_PRIORITY} to {MOST_PRIORITY}")

    def request(self, *, branch: str | None, commit: str | None, key: str, by: str) -> RunRequest:
        """Return the request for one occasion, which `key` names."""
        return RunRequest(
            repository=self.repository,
            directory=Path("/"),
            branch=branch,
            commit=commit,
            file=self.file,
            pipelines=self.pipelines,
            variables=self.variables,
            driver=self.driver,
            priority=self.priority,
            idempotency_key=key,
            by=by,
        )

    def values(self) -> tuple[Any, ...]:
        """Return the columns `pipelines, file, variables, driver, priority`."""
        return (to_text(self.pipelines), self.file, json.dumps(dict(self.variables)), self.driver, self.priority)


def read_order(
    repository: str, pipelines: str, file: str | None, variables: str, driver: str | None, priority: int
) -> Order:
    """Return the order that `values` made columns of."""
    return Order(repository, from_text(pipelines), file, json.loads(variables), driver, priority)


def check_texts(
    name: str, texts: Sequence[str], *, most: int = MOST_ITEMS, lines: bool = False, empty: bool = False
) -> None:
    """Refuse too many, too long or unprintable texts; with `lines`, line breaks and tabs may be in them; InputError."""
    if len(texts) > most:
        raise InputError(f"{name}: more than {most}")
    for text in texts:
        printable = text.replace("\n", "").replace("\t", "") if lines else text
        if (not text and not empty) or len(text) > MOST_CHARACTERS or not printable.isprintable():
            raise InputError(f"{name}: {text[:80]!r} is empty, too long or has characters that can't be shown")


def new_identity() -> str:
    """Return the id of a new hook or schedule, which can't be guessed."""
    return secrets.token_hex(8)


def is_identity(text: str) -> bool:
    """Say whether the text can be such an id; what can't must not reach a database, which may refuse its characters."""
    return re.fullmatch("[0-9a-f]{16}", text) is not None


def to_text(items: Sequence[str]) -> str:
    """Return a list as the JSON text of a column."""
    return json.dumps(list(items))


def from_text(text: str) -> tuple[str, ...]:
    """Return the list that `to_text` made a text of."""
    return tuple(json.loads(text))


def micros(at: datetime) -> int:
    """Return the time in whole microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """Return the time that `micros` made a number of."""
    return _EPOCH + timedelta(microseconds=value)
