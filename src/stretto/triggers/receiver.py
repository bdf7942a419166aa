"""From a forge's HTTP request to a run: who sent it, what it tells, whether it came before, whether the hook wants it.

A sender without the secret learns nothing, not even whether the hook exists.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qs

from stretto.core.errors import InputError, NotFoundError
from stretto.core.ports import Clock, Tables
from stretto.triggers import github, gitlab
from stretto.triggers.delivery import Delivery
from stretto.triggers.hook import Hook
from stretto.triggers.hook_table import HookTable, Receipt, receipt_of
from stretto.triggers.order import Accept, Order
from stretto.triggers.signature import is_signed, replay_key

log = logging.getLogger(__name__)

MOST_BYTES: Final = 25 * 1024 * 1024
"""Of a delivery; GitHub sends no larger ones."""
_IDENTITIES: Final = (
    *("x-github-delivery", "x-gitea-delivery", "x-forgejo-delivery"),
    *("webhook-id", "idempotency-key", "x-gitlab-event-uuid"),
)
_NOBODY: Final = Hook("", "github", secrets.token_hex(16), Order(""))
"""Stands in for a hook that does not exist, so that looking in vain takes as long."""


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a delivery; `again` where it had come before."""

    receipt: Receipt
    again: bool


class Receiver:
    """Takes deliveries. Any number at once, in any number of processes."""

    def __init__(self, tables: Tables, accept: Accept, clock: Clock) -> None:
        self._hooks = HookTable(tables)
        self._accept = accept
        self._clock = clock

    async def receive(self, hook_id: str, headers: Mapping[str, str], body: bytes) -> Received:
        """Return what became of the delivery: runs are on disk, and the same one again gives the same runs.

        `headers` have their names in small letters. NotFoundError if there is no such hook or the signature is not its own:
        which of the two, it does not say. InputError for a signed body that is not what its event has.
        """
        hook = await self._authenticate(hook_id, headers, body)
        key = replay_key(hook.kind, headers, body)
        if (known := await self._hooks.find_receipt(hook.id, key)) is not None:
            return Received(known, again=True)
        delivery = parse(hook.kind, headers, body)
        identity = next((_identity(headers[name]) for name in _IDENTITIES if headers.get(name)), key[:16])
        ignored = hook.why_not(delivery)
        receipt = receipt_of(delivery, key=key, identity=identity, ignored=ignored, now=self._clock.now())
        if ignored is None:
            receipt = await self._start(hook, delivery, receipt)
        await self._hooks.add_receipt(hook.id, receipt)
        return Received(receipt, again=False)

    async def _authenticate(self, hook_id: str, headers: Mapping[str, str], body: bytes) -> Hook:
        try:
            hook = await self._hooks.find(hook_id)
        except NotFoundError:
            hook = _NOBODY
        signed = len(body) <= MOST_BYTES and is_signed(hook.kind, hook.secret, headers, body, now=self._clock.now())
        if not signed or hook is _NOBODY:
            raise NotFoundError("there is no such hook, or the delivery is not signed with its secret")
        return hook

    async def _start(self, hook: Hook, delivery: Delivery, receipt: Receipt) -> Receipt:
        """Accept the runs first: where this process dies before the receipt is on disk, the key finds them again."""
        request = hook.order.request(
            branch=delivery.branch, commit=delivery.commit, key=f"hook/{hook.id}/{receipt.key}", by=hook.by
        )
        accepted = await self._accept(request)
        log.info("delivery accepted", extra={"hook": hook.id, "delivery": receipt.id, "runs": len(accepted)})
        return replace(receipt, runs=tuple(row.id for row, _ in accepted))


def parse(kind: str, headers: Mapping[str, str], body: bytes) -> Delivery:
    """Return what a delivery tells; InputError if it is no payload of this kind of forge."""
    if kind != "gitlab" and headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body = _from_form(body)
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("the payload is no JSON") from error
    if not isinstance(data, dict):
        raise InputError("the payload is no JSON object")
    if kind == "gitlab":
        return gitlab.parse(data)
    names = ("x-gitea-event", "x-forgejo-event", "x-github-event") if kind != "github" else ("x-github-event",)
    event = next((headers[name] for name in names if headers.get(name)), "unnamed")
    return github.parse(_identity(event), data)


def _from_form(body: bytes) -> bytes:
    """Return the payload of a form, which GitHub sends unless told to send JSON."""
    try:
        (payload,) = parse_qs(body.decode("ascii"), max_num_fields=1)["payload"]
    except (ValueError, KeyError) as error:
        raise InputError("the form has no payload") from error
    return payload.encode("utf-8", "surrogatepass")


def _identity(text: str) -> str:
    """Return a header's text as it may be shown: forges write identifiers, others may write anything."""
    return "".join(character if character.isprintable() else "?" for character in text[:64])
