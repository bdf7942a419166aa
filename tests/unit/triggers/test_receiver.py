"""From a delivery to a run on disk: once, and only for who has the secret."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from stretto.core.errors import InputError, NotFoundError, StoreError
from stretto.core.ports import RunRow
from stretto.triggers.delivery import Trigger
from stretto.triggers.hook import Hook
from stretto.triggers.hook_table import KEEP, HookTable
from stretto.triggers.order import Order
from stretto.triggers.receiver import MOST_BYTES, Receiver
from stretto.waist import RunRequest
from tests.unit.triggers import payload
from tests.unit.triggers.conftest import Base

HOOK = Hook(
    id="0123456789abcdef",
    kind="github",
    secret=payload.GITHUB_SECRET,
    order=Order("git@github.com:acme/words.git", ("test", "docs"), "ci/pipeline.yml", {"LEVEL": "2"}, "process", 7),
    branches=("main",),
    created_by="ada",
)
BODY = payload.body_of(payload.github_push())
HEADERS = payload.github_headers(BODY)


async def make(base: Base, hook: Hook = HOOK) -> Receiver:
    """Store the hook and return a receiver."""
    await HookTable(base.store.tables).add(hook, now=base.clock.now())
    return Receiver(base.store.tables, base.service.accept, base.clock)


async def test_delivery_becomes_the_runs_its_hook_asks_for(base: Base) -> None:
    """One run a pipeline, of the pushed commit, with all that the hook says."""
    received = await (await make(base)).receive(HOOK.id, HEADERS, BODY)
    runs = await base.runs()
    assert received.receipt.runs == tuple(row.id for row in runs)
    assert [(row.name, row.by, row.priority, row.branch) for row in runs] == [
        ("test", f"hook/{HOOK.id}", 7, "main"),
        ("docs", f"hook/{HOOK.id}", 7, "main"),
    ]
    stored = await base.store.load(runs[0].id)
    assert stored.request == {
        "repository": "git@github.com:acme/words.git",
        "branch": "main",
        "commit": payload.NEW,
        "file": "ci/pipeline.yml",
        "driver": "process",
        "pipelines": ["test"],
        "variables": {"LEVEL": "2"},
        "priority": 7,
    }


async def test_delivery_that_comes_again_starts_nothing(base: Base) -> None:
    """Whatever id it comes under, and in whichever process: the same runs are the answer."""
    receiver = await make(base)
    first = await receiver.receive(HOOK.id, HEADERS, BODY)
    again = await receiver.receive(HOOK.id, payload.github_headers(BODY, delivery="another"), BODY)
    assert again.again
    assert again.receipt == first.receipt
    assert len(await base.runs()) == 2


async def test_delivery_that_comes_twice_at_once_starts_one_run(base: Base) -> None:
    """The key of the run decides between those that look before the other has written."""
    receiver = await make(base)
    both = await asyncio.gather(*(receiver.receive(HOOK.id, HEADERS, BODY) for _ in range(8)))
    assert len({it.receipt.runs for it in both}) == 1
    assert len(await base.runs()) == 2


async def test_delivery_is_found_again_after_a_crash_between_run_and_receipt(base: Base) -> None:
    """The run was stored, its receipt was not: sent again, the delivery gets that run."""
    receiver = await make(base)
    first = await receiver.receive(HOOK.id, HEADERS, BODY)
    await base.store.tables.write(("DELETE FROM delivery", ()))
    again = await receiver.receive(HOOK.id, HEADERS, BODY)
    assert again.receipt.runs == first.receipt.runs
    assert len(await base.runs()) == 2


async def test_delivery_is_found_again_after_its_receipt_was_forgotten(base: Base) -> None:
    """A captured delivery sent again after weeks starts nothing while its run is kept."""
    receiver = await make(base)
    await receiver.receive(HOOK.id, HEADERS, BODY)
    base.clock.at += KEEP + timedelta(hours=1)
    other = payload.body_of(payload.github_push(after=payload.OLD))
    await receiver.receive(HOOK.id, payload.github_headers(other), other)
    (count,) = await base.store.tables.read("SELECT count(*) FROM delivery")
    assert count == (1,), "the first one was forgotten"
    before = len(await base.runs())
    await receiver.receive(HOOK.id, HEADERS, BODY)
    assert len(await base.runs()) == before


async def test_delivery_that_could_not_be_stored_is_taken_when_it_is_sent_again(base: Base) -> None:
    """A forge sends again what failed: a store that was away leaves nothing that says it came before."""
    await make(base)

    async def fail(request: RunRequest) -> list[tuple[RunRow, bool]]:
        raise StoreError("the store is away")

    with pytest.raises(StoreError):
        await Receiver(base.store.tables, fail, base.clock).receive(HOOK.id, HEADERS, BODY)
    received = await Receiver(base.store.tables, base.service.accept, base.clock).receive(HOOK.id, HEADERS, BODY)
    assert not received.again
    assert len(received.receipt.runs) == 2


async def test_delivery_that_is_not_wanted_is_kept_with_the_reason(base: Base) -> None:
    """Who looks for a run that did not start finds out why."""
    receiver = await make(base)
    body = payload.body_of(payload.github_push(ref="refs/heads/faster"))
    await receiver.receive(HOOK.id, payload.github_headers(body), body)
    (receipt,) = await HookTable(base.store.tables).receipts(HOOK.id, 10)
    assert receipt.ignored == "no branch pattern matches faster"
    assert (receipt.runs, receipt.branch, receipt.sender, receipt.event) == ((), "faster", "ada", "push")
    assert await base.runs() == []


async def test_sender_without_the_secret_can_not_tell_whether_the_hook_exists(base: Base) -> None:
    """A wrong signature, no signature, another hook's and no hook at all: one answer, and nothing on record."""
    receiver = await make(base)
    other = replace(HOOK, id="fedcba9876543210", secret="of-another-hook-altogether-123")
    await HookTable(base.store.tables).add(other, now=base.clock.now())
    tries = [
        (HOOK.id, {}, BODY),
        (HOOK.id, payload.github_headers(BODY, secret=other.secret), BODY),
        (other.id, HEADERS, BODY),
        (HOOK.id, HEADERS, BODY + b" "),
        ("0" * 16, HEADERS, BODY),
        ("", HEADERS, BODY),
        ("\x00", HEADERS, BODY),
        ("' OR 1=1 --", HEADERS, BODY),
        (HOOK.id, HEADERS, b"x" * (MOST_BYTES + 1)),
    ]
    answers = set()
    for hook_id, headers, body in tries:
        with pytest.raises(NotFoundError) as refused:
            await receiver.receive(hook_id, headers, body)
        answers.add((refused.value.message, refused.value.hint))
    assert len(answers) == 1
    assert await base.store.tables.read("SELECT * FROM delivery") == []
    assert await base.runs() == []


async def test_signed_body_that_is_no_payload_is_refused(base: Base) -> None:
    """It is told to who has the secret, and not remembered."""
    receiver = await make(base)
    with pytest.raises(InputError, match="no JSON"):
        await receiver.receive(HOOK.id, payload.github_headers(b"{"), b"{")
    assert await base.store.tables.read("SELECT * FROM delivery") == []


async def test_gitlab_delivery_with_either_secret_starts_a_run(base: Base) -> None:
    """The plain token and the signing token are two hooks of one project."""
    order = Order("https://gitlab.example.com/acme/tools/words.git")
    plain = Hook("a" * 16, "gitlab", payload.GITLAB_TOKEN, order)
    signing = Hook("b" * 16, "gitlab", payload.GITLAB_SIGNING, order)
    receiver = await make(base, plain)
    await HookTable(base.store.tables).add(signing, now=base.clock.now())
    body = payload.body_of(payload.gitlab_push())
    one = await receiver.receive(plain.id, payload.gitlab_headers(), body)
    headers = payload.gitlab_signed_headers(body, base.clock.now().timestamp())
    two = await receiver.receive(signing.id, headers, body)
    assert len(one.receipt.runs) == len(two.receipt.runs) == 1
    assert one.receipt.runs != two.receipt.runs


async def test_hook_comes_back_from_the_store_as_it_was_made(base: Base) -> None:
    """Every field of it; disabled, it keeps the others; deleted, it takes its deliveries along."""
    table = HookTable(base.store.tables)
    hook = replace(HOOK, events=(Trigger.PULL_REQUEST,), paths=("src/*", "!src/x"), created_at=base.clock.now())
    receiver = await make(base, hook)
    assert await table.read_all() == [hook]
    assert await table.enable(hook.id, False) == replace(hook, enabled=False) == await table.find(hook.id)
    await receiver.receive(hook.id, HEADERS, BODY)
    await table.delete(hook.id)
    assert await table.read_all() == []
    assert await base.store.tables.read("SELECT * FROM delivery") == []
    with pytest.raises(NotFoundError):
        await table.delete(hook.id)
