"""A process that uses a store until it is done or killed: `python -m tests.conformance.stores.child HARNESS PLACE WHAT …`.

`hold RUN`: claim the run, say so, wait to be killed. `write SEED`: submit and play a random run over and over, printing what was
acknowledged. `ask RUN COUNT`: leave requests. `play COUNT`: that many small runs, each to its end.
"""

from __future__ import annotations

import asyncio
import random
import sys

from stretto.core import events as ev
from stretto.core.ports import NewRun, Store
from stretto.core.run import Run

from .harness import HARNESSES
from .history import BEGIN, fold, random_history, random_spec


async def hold(store: Store, run_id: str) -> None:
    """Claim the run and never let go."""
    await store.keep_lease("holder", 3600.0)
    await store.claim(run_id, "holder")
    print("held", flush=True)  # noqa: T201 - how the parent hears of it
    await asyncio.Event().wait()


async def write(store: Store, seed: str) -> None:
    """Play random runs, several at once; a line `RUN COUNT` says that so many events of a run are acknowledged."""
    chance = random.Random(int(seed))

    async def lane(chance: random.Random) -> None:
        while True:
            await _play(store, chance, f"writer-{seed}", tell=True)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(4):
            lanes.create_task(lane(random.Random(chance.random())))


async def play(store: Store, seed: str, count: str) -> None:
    """Play so many random runs to their ends."""
    chance = random.Random(int(seed))
    for _ in range(int(count)):
        await _play(store, chance, f"player-{seed}", tell=False)


async def ask(store: Store, run_id: str, count: str) -> None:
    """Leave so many requests, one after the other."""
    for i in range(int(count)):
        await store.ask(run_id, "cancel", {"i": i})


async def _play(store: Store, chance: random.Random, owner: str, *, tell: bool) -> None:
    row, _ = await store.create_run(NewRun(random_spec(chance), BEGIN))
    claim = await store.claim(row.id, owner)
    stored = await store.load(row.id)
    run: Run = fold(row.id, stored.spec, stored.events)
    batch: list[ev.Event] = []
    for event in random_history(chance, run):
        batch.append(event)
        if chance.random() < 0.6 or run.is_over:
            await store.commit(claim, batch, run.take_changes())
            batch = []
            if tell:
                print(row.id, run.events_applied, flush=True)  # noqa: T201 - how the parent hears of it
    await store.release(claim)


async def main(harness: str, place: str, what: str, *arguments: str) -> None:
    """Open the store and do what is asked."""
    store = await HARNESSES[harness].at(place).open()
    await {"hold": hold, "write": write, "play": play, "ask": ask}[what](store, *arguments)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
