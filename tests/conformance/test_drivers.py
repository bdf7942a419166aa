"""What every driver does: one suite, run on each harness of `tests.conformance.drivers`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stretto.core.events import Handle, Outcome
from stretto.core.ports import Driver, Launch
from stretto.core.states import Reason, Status
from tests.conformance.drivers import HARNESSES, harnesses_with
from tests.conformance.drivers.harness import Harness, Work

PATIENCE_S = 30.0
"""How long a test waits for what must come, on a loaded machine."""


@pytest.fixture(params=harnesses_with())
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    """A back-end with nothing on it."""
    harness = HARNESSES[request.param](tmp_path)
    yield harness
    await harness.close()


async def end_of(driver: Driver, handle: Handle) -> Outcome:
    """Return the outcome, which must come in time."""
    async with asyncio.timeout(PATIENCE_S):
        return await driver.wait(handle)


async def log_of(driver: Driver, handle: Handle, position: int = 0) -> bytes:
    """Return the whole output after `position`, whose chunks must say where they end."""
    got = b""
    async with asyncio.timeout(PATIENCE_S):
        async for chunk in driver.logs(handle, position):
            got += chunk.data
            assert chunk.data
            assert chunk.position == position + len(got)
            assert chunk.at.tzinfo is not None
    return got


async def first_log(driver: Driver, handle: Handle, size: int) -> tuple[bytes, int]:
    """Return the first bytes of the output, at least `size`, and the position after them."""
    got, position = b"", 0
    async with asyncio.timeout(PATIENCE_S):
        async for chunk in driver.logs(handle, 0):
            got, position = got + chunk.data, chunk.position
            if len(got) >= size:
                break
    return got, position


def handle_for(driver: Driver, handles: list[Handle], launch: Launch) -> Handle:
    """Return the launch's handle among `handles`."""
    (found,) = [handle for handle in handles if handle.key == launch.key.text]
    assert found.driver == driver.name
    return found


# -------------------------------------------------------------------------------------------------------------- ends


async def test_success_has_exit_code_zero_and_times(harness: Harness, driver: Driver) -> None:
    """Work that ends well is a success, with exit code 0, no reason, and times in order."""
    handle = await driver.start(harness.launch(Work()))
    outcome = await end_of(driver, handle)
    assert (outcome.status, outcome.exit_code, outcome.reason) == (Status.SUCCESS, 0, None)
    assert outcome.started_at is not None
    assert outcome.ended_at is not None
    assert outcome.started_at <= outcome.ended_at


@pytest.mark.parametrize("code", [1, 2, 77, 126, 127, 255])
async def test_exit_code_is_kept(harness: Harness, driver: Driver, code: int) -> None:
    """Any other exit code is a failure that says which."""
    handle = await driver.start(harness.launch(Work(exit_code=code)))
    outcome = await end_of(driver, handle)
    assert (outcome.status, outcome.exit_code, outcome.reason) == (Status.FAILED, code, Reason.EXIT_CODE)
    assert outcome.message


async def test_wait_twice_gives_the_same_outcome(harness: Harness, driver: Driver) -> None:
    """An outcome may be asked for any number of times, at once and later."""
    launch = harness.launch(Work(exit_code=3, gated=True))
    handle = await driver.start(launch)
    both = asyncio.gather(end_of(driver, handle), end_of(driver, handle))
    await asyncio.sleep(0)
    harness.release(launch)
    first, second = await both
    assert first == second == await end_of(driver, handle)


async def test_wait_cut_off_leaves_the_attempt_running(harness: Harness, driver: Driver) -> None:
    """A wait that is cancelled changes nothing: the attempt goes on and can be waited for again."""
    launch = harness.launch(Work(gated=True))
    handle = await driver.start(launch)
    waiting = asyncio.create_task(driver.wait(handle))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    harness.release(launch)
    assert (await end_of(driver, handle)).status is Status.SUCCESS


async def test_wait_on_a_lost_attempt_says_lost(harness: Harness, driver: Driver) -> None:
    """An attempt that the back-end loses is a failure, `lost` or `killed`, without an exit code of the script."""
    launch = harness.launch(Work(gated=True, output=b"begun"))
    handle = await driver.start(launch)
    await first_log(driver, handle, 5)
    waiting = asyncio.create_task(end_of(driver, handle))
    await asyncio.sleep(0)
    await harness.lose(launch)
    outcome = await waiting
    assert outcome.status is Status.FAILED
    assert outcome.reason in (Reason.LOST, Reason.KILLED)


async def test_wait_on_a_removed_attempt_says_lost(harness: Harness, driver: Driver) -> None:
    """What was removed can't be told any more."""
    handle = await driver.start(harness.launch(Work()))
    await end_of(driver, handle)
    await driver.remove(handle)
    outcome = await end_of(driver, handle)
    assert (outcome.status, outcome.exit_code, outcome.reason) == (Status.FAILED, None, Reason.LOST)


# -------------------------------------------------------------------------------------------------------------- logs


@pytest.mark.parametrize(
    "output",
    [b"", b"one\n", b"no final newline", b"\n\n", b"\xff\xfe\x80 not UTF-8 \xc3", b"a\r\nb\x00c\x1b[31m%s\\n"],
)
async def test_logs_give_the_exact_bytes(harness: Harness, driver: Driver, output: bytes) -> None:
    """Output comes as it was written, whatever its bytes."""
    handle = await driver.start(harness.launch(Work(output=output)))
    assert await log_of(driver, handle) == output
    await end_of(driver, handle)
    assert await log_of(driver, handle) == output


async def test_logs_come_while_the_attempt_runs(harness: Harness, driver: Driver) -> None:
    """What is written is seen at once, and the log ends when the attempt does."""
    launch = harness.launch(Work(output=b"early\n", gated=True))
    handle = await driver.start(launch)
    assert await first_log(driver, handle, 6) == (b"early\n", 6)
    reading = asyncio.create_task(log_of(driver, handle))
    harness.release(launch)
    assert await reading == b"early\n"


@pytest.mark.parametrize("position", [0, 1, 500, 999, 1000])
async def test_logs_resume_by_position(harness: Harness, driver: Driver, position: int) -> None:
    """A log taken up at a position goes on right there: nothing lost, nothing twice."""
    output = bytes(i % 251 for i in range(1000))
    handle = await driver.start(harness.launch(Work(output=output)))
    assert await log_of(driver, handle, position) == output[position:]


async def test_logs_go_on_with_another_driver(harness: Harness, driver: Driver) -> None:
    """A log read in part by one orchestrator is read on by the next."""
    launch = harness.launch(Work(output=b"before the crash", gated=True))
    handle = await driver.start(launch)
    got, position = await first_log(driver, handle, 6)
    await driver.close()
    second = harness.driver()
    harness.release(launch)
    assert got + await log_of(second, handle, position) == b"before the crash"
    await second.close()


# ------------------------------------------------------------------------------------------------- start and adoption


async def test_start_twice_runs_once(harness: Harness, driver: Driver) -> None:
    """A second start of the same key, during or after the first, adopts it."""
    launch = harness.launch(Work(gated=True, exit_code=4))
    first = await driver.start(launch)
    assert (await driver.start(launch)).key == first.key
    harness.release(launch)
    assert (await end_of(driver, first)).exit_code == 4
    again = await driver.start(launch)
    assert (await end_of(driver, again)).exit_code == 4
    assert harness.runs_of(launch) == 1


async def test_start_by_two_drivers_at_once_runs_once(harness: Harness, driver: Driver) -> None:
    """Two orchestrators that start one key at once get one attempt."""
    launch = harness.launch(Work(exit_code=4))
    second = harness.driver()
    handles = await asyncio.gather(driver.start(launch), second.start(launch))
    ends = [await end_of(one, handle) for one, handle in zip((driver, second), handles, strict=True)]
    assert [end.exit_code for end in ends] == [4, 4]
    assert harness.runs_of(launch) == 1
    await second.close()


async def test_attempt_survives_its_orchestrator(harness: Harness, driver: Driver) -> None:
    """A new driver finds what an earlier one started, adopts it and gets its outcome."""
    launch = harness.launch(Work(gated=True, exit_code=9))
    handle = await driver.start(launch)
    await driver.close()
    second = harness.driver()
    assert await second.find(launch.key, launch.directory) == handle
    assert await second.start(launch) == handle
    harness.release(launch)
    assert (await end_of(second, handle)).exit_code == 9
    assert harness.runs_of(launch) == 1
    await second.close()


async def test_outcome_survives_its_orchestrator(harness: Harness, driver: Driver) -> None:
    """An attempt that ended while nobody watched tells how."""
    launch = harness.launch(Work(output=b"alone", gated=True, exit_code=5))
    handle = await driver.start(launch)
    await driver.close()
    harness.release(launch)
    second = harness.driver()
    assert (await end_of(second, handle)).exit_code == 5
    assert await log_of(second, handle) == b"alone"
    await second.close()


async def test_find_knows_only_what_was_started(harness: Harness, driver: Driver) -> None:
    """Nothing before, nothing when only prepared, the handle once started, nothing after removal."""
    launch = harness.launch(Work())
    assert await driver.find(launch.key, launch.directory) is None
    await driver.prepare(launch)
    assert await driver.find(launch.key, launch.directory) is None
    handle = await driver.start(launch)
    assert await driver.find(launch.key, launch.directory) == handle
    await end_of(driver, handle)
    assert await driver.find(launch.key, launch.directory) == handle
    await driver.remove(handle)
    assert await driver.find(launch.key, launch.directory) is None


async def test_prepare_runs_nothing(harness: Harness, driver: Driver) -> None:
    """Preparing, even twice, runs no line; a start after it does, once."""
    launch = harness.launch(Work(exit_code=6))
    await driver.prepare(launch)
    await driver.prepare(launch)
    assert harness.runs_of(launch) == 0
    handle = await driver.start(launch)
    assert (await end_of(driver, handle)).exit_code == 6
    assert harness.runs_of(launch) == 1


async def test_prepared_attempt_can_be_removed(harness: Harness, driver: Driver) -> None:
    """What was prepared and never started is stopped without harm and removed without a trace."""
    launch = harness.launch(Work())
    await driver.prepare(launch)
    handle = handle_for(driver, list(await driver.orphans()), launch)
    await driver.stop(handle, 0.1)
    await driver.remove(handle)
    assert harness.left(launch) == []
    assert harness.runs_of(launch) == 0


async def test_twenty_attempts_at_once_keep_apart(harness: Harness, driver: Driver) -> None:
    """Concurrent attempts each have their own output, exit code and run."""
    launches = [harness.launch(Work(output=b"%d" % i, exit_code=i)) for i in range(20)]

    async def run(launch: Launch) -> tuple[bytes, int | None]:
        handle = await driver.start(launch)
        log, outcome = await asyncio.gather(log_of(driver, handle), end_of(driver, handle))
        return log, outcome.exit_code

    assert await asyncio.gather(*map(run, launches)) == [(b"%d" % i, i) for i in range(20)]
    assert [harness.runs_of(launch) for launch in launches] == [1] * 20


# ---------------------------------------------------------------------------------------------------- stop and remove


async def test_stop_ends_the_attempt(harness: Harness, driver: Driver) -> None:
    """A stopped attempt is over, is no success, and its log is complete."""
    launch = harness.launch(Work(output=b"begun", gated=True))
    handle = await driver.start(launch)
    await first_log(driver, handle, 5)
    async with asyncio.timeout(PATIENCE_S):
        await driver.stop(handle, PATIENCE_S)
    outcome = await end_of(driver, handle)
    assert outcome.status in (Status.FAILED, Status.CANCELED)
    assert await log_of(driver, handle) == b"begun"


async def test_stop_kills_what_ignores_term(harness: Harness, driver: Driver) -> None:
    """Work that does not end on TERM is given the grace time and then killed."""
    launch = harness.launch(Work(output=b"begun", gated=True, ignores_term=True))
    handle = await driver.start(launch)
    await first_log(driver, handle, 5)
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(PATIENCE_S):
        await driver.stop(handle, 0.3)
    assert asyncio.get_running_loop().time() - began >= 0.25
    assert (await end_of(driver, handle)).status in (Status.FAILED, Status.CANCELED)


async def test_stop_may_be_repeated(harness: Harness, driver: Driver) -> None:
    """A second stop, at once or later, does no harm."""
    launch = harness.launch(Work(output=b"begun", gated=True))
    handle = await driver.start(launch)
    await first_log(driver, handle, 5)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(driver.stop(handle, PATIENCE_S), driver.stop(handle, PATIENCE_S))
        await driver.stop(handle, PATIENCE_S)


async def test_stop_after_the_end_changes_nothing(harness: Harness, driver: Driver) -> None:
    """An attempt that ended by itself keeps its outcome."""
    handle = await driver.start(harness.launch(Work(exit_code=3)))
    before = await end_of(driver, handle)
    await driver.stop(handle, 0.1)
    assert await end_of(driver, handle) == before


async def test_stop_of_a_removed_attempt_does_nothing(harness: Harness, driver: Driver) -> None:
    """Stopping what is not there is no error."""
    handle = await driver.start(harness.launch(Work()))
    await end_of(driver, handle)
    await driver.remove(handle)
    await driver.stop(handle, 0.1)


async def test_remove_leaves_nothing(harness: Harness, driver: Driver) -> None:
    """After removal nothing of the attempt is left outside; removing again is no error."""
    launch = harness.launch(Work(output=b"x"))
    handle = await driver.start(launch)
    await end_of(driver, handle)
    assert harness.left(launch) != []
    await driver.remove(handle)
    assert harness.left(launch) == []
    await driver.remove(handle)


async def test_remove_ends_a_running_attempt(harness: Harness, driver: Driver) -> None:
    """Removing what runs kills it, and who waits for it is told."""
    launch = harness.launch(Work(output=b"begun", gated=True, ignores_term=True))
    handle = await driver.start(launch)
    await first_log(driver, handle, 5)
    waiting = asyncio.create_task(end_of(driver, handle))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await driver.remove(handle)
    assert (await waiting).status is Status.FAILED
    assert harness.left(launch) == []


async def test_orphans_lists_what_is_there(harness: Harness, driver: Driver) -> None:
    """Prepared, running and ended attempts are listed until they are removed, by any driver over the back-end."""
    launches = [harness.launch(Work(gated=True)), harness.launch(Work()), harness.launch(Work())]
    handles = [await driver.start(launch) for launch in launches[:2]]
    await driver.prepare(launches[2])
    await driver.close()
    second = harness.driver()
    listed = {handle.key: handle for handle in await second.orphans()}
    assert set(listed) == {launch.key.text for launch in launches}
    assert all(listed[handle.key] == handle for handle in handles)
    for handle in listed.values():
        await second.remove(handle)
    assert await second.orphans() == []
    assert [harness.left(launch) for launch in launches] == [[], [], []]
    await second.close()
