"""A hook: for which deliveries of which repository something is run, and what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final

from stretto.core.errors import InputError
from stretto.triggers.delivery import Delivery, Trigger
from stretto.triggers.order import Order, check_texts
from stretto.triggers.place import place_of
from stretto.triggers.signature import SIGNING_TOKEN, signing_key

KINDS: Final = ("github", "gitlab", "gitea", "forgejo")
LEAST_SECRET: Final = 16
"""Characters of a secret: fewer can be guessed."""
MOST_SECRET: Final = 255


@dataclass(frozen=True, slots=True)
class Hook:
    """What a delivery is held against. `secret` is in no answer and no log but the answer to its creation.

    A pattern is one of `fnmatch` whose `*` passes over slashes; one that begins with `!` takes out what matches. The last that
    matches decides. `branches` is held against the branch, the tag or the branch that a pull request goes to; `paths` against
    the files that a push touches. No pattern: everything passes.
    """

    id: str
    kind: str
    secret: str = field(repr=False)
    order: Order
    events: tuple[Trigger, ...] = (Trigger.PUSH, Trigger.TAG)
    branches: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    enabled: bool = True
    created_by: str = ""
    created_at: datetime | None = None

    @property
    def by(self) -> str:
        """Who submits what it starts."""
        return f"hook/{self.id}"

    def check(self) -> None:
        """Refuse a hook that can't work; InputError."""
        if self.kind not in KINDS:
            raise InputError(f"{self.kind!r} is no kind of hook", hint=f"kinds: {', '.join(KINDS)}")
        if not self.events:
            raise InputError("a hook without events would start nothing")
        printable = self.secret.isascii() and self.secret.isprintable() and " " not in self.secret
        if not LEAST_SECRET <= len(self.secret) <= MOST_SECRET or not printable:
            raise InputError(f"a secret has {LEAST_SECRET} to {MOST_SECRET} printable ASCII characters and no blank")
        if self.kind == "gitlab" and self.secret.startswith(SIGNING_TOKEN) and signing_key(self.secret) is None:
            raise InputError(f"a signing token is {SIGNING_TOKEN} and a key in base64")
        self.order.check()
        check_texts("branches", self.branches)
        check_texts("paths", self.paths)

    def why_not(self, delivery: Delivery) -> str | None:
        """Return why the delivery starts nothing; None if it does."""
        if delivery.ignored is not None:
            return delivery.ignored
        if not self.enabled:
            return "the hook is disabled"
        if not self._is_about(delivery.repositories):
            return f"it is about another repository than {self.order.repository}"
        if delivery.trigger not in self.events:
            return f"the hook is not for {delivery.trigger} events"
        if not matches(delivery.target or "", self.branches):
            return f"no branch pattern matches {delivery.target}"
        if delivery.files is not None and not any(matches(file, self.paths) for file in delivery.files):
            return "no path pattern matches a changed file"
        return None

    def _is_about(self, addresses: Sequence[str]) -> bool:
        return place_of(self.order.repository) in {place_of(address) for address in addresses}


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Say whether the patterns let `name` pass; the last one that matches decides, and without any all pass."""
    passes = not patterns or patterns[0].startswith("!")
    for pattern in patterns:
        if fnmatchcase(name, pattern.removeprefix("!")):
            passes = not pattern.startswith("!")
    return passes
