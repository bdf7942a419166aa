"""What only the driver `process` can be asked: the script's surroundings, faults of the host, shims that come second."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stretto.core.errors import DriverError
from stretto.core.ports import Launch
from stretto.core.spec import AttemptKey, JobSpec, Script
from stretto.core.states import Reason, Status
from stretto.drivers.process import ProcessDriver, ProcessSettings
from stretto.drivers.process.environment import KEPT
from stretto.drivers.process.host import SHIM


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[ProcessDriver]:
    """A driver whose attempts are removed after the test."""
    driver = ProcessDriver(ProcessSettings(attempts=tmp_path / "attempts"))
    yield driver
    for handle in await driver.orphans():
        await driver.remove(handle)
    await driver.close()


def launch_of(directory: Path, *lines: str, after: tuple[str, ...] = (), **variables: str) -> Launch:
    """Return the launch of a script."""
    key = AttemptKey("run", "job", 1)
    job = JobSpec("job", "test", "process", script=Script(lines, after=after))
    return Launch(key, job, directory / "attempts" / key.name, variables=variables)


async def output_of(driver: ProcessDriver, launch: Launch) -> bytes:
    """Return the whole output of a script."""
    handle = await driver.start(launch)
    async with asyncio.timeout(30):
        return b"".join([chunk.data async for chunk in driver.logs(handle, 0)])


def spawn_shim(launch: Launch, place: Path, before: str = "") -> subprocess.Popen[bytes]:
    """Start a shim as another orchestrator might have, after some shell commands."""
    command = f'{before} exec /bin/sh "$@"'
    return subprocess.Popen(
        ["/bin/sh", "-c", command, "sh", SHIM, launch.directory, place, "/bin/sh"],
        env={"STRETTO_ATTEMPT_KEY": launch.key.text},
        start_new_session=True,
        stdout=subprocess.PIPE,
    )


def fill(disk: Path) -> None:
    """Take all the room there is."""
    with (disk / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def children() -> set[int]:
    """Return the pids of this process's children, ended ones that nobody took note of included."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found.add(int(stat.parent.name))
    return found


# ------------------------------------------------------------------------------------------------------- surroundings


async def test_environment_is_the_base_and_the_jobs_own(
    driver: ProcessDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script gets the documented base, its own variables and its mark; nothing else of the orchestrator's."""
    monkeypatch.setenv("GITHUB_TOKEN", "a secret of the user's")
    names = {
        line.partition("=")[0]
        for line in (await output_of(driver, launch_of(tmp_path, "env", OWN="x"))).decode().split()
    }
    assert names <= {*KEPT, "SHELL", "OWN", "STRETTO_ATTEMPT_KEY", "PWD", "OLDPWD", "_"}
    assert {"PATH", "HOME", "SHELL", "OWN", "STRETTO_ATTEMPT_KEY"} <= names


async def test_jobs_variables_do_not_steer_the_shim(driver: ProcessDriver, tmp_path: Path) -> None:
    """Names that a shell or the shim might use for itself arrive as they were given."""
    given = {"IFS": "x", "CDPATH": "/usr", "code": "1", "attempt": "2", "ENV": "/dev/null", "PS4": "p"}
    script = " ".join(f'"${name}"' for name in given if name != "IFS")
    assert await output_of(driver, launch_of(tmp_path, f"echo {script}", **given)) == b"/usr 1 2 /dev/null p\n"


async def test_nothing_of_the_job_is_in_a_command_line(driver: ProcessDriver, tmp_path: Path) -> None:
    """Who lists processes sees neither variables nor script."""
    launch = launch_of(tmp_path, "cat /proc/$PPID/cmdline /proc/$$/cmdline # unspoken", TOKEN="very secret")
    lines = await output_of(driver, launch)
    assert b"shim.sh" in lines
    assert b"secret" not in lines
    assert b"unspoken" not in lines


async def test_attempts_files_are_the_users_alone(driver: ProcessDriver, tmp_path: Path) -> None:
    """Others on the host read neither script nor log."""
    launch = launch_of(tmp_path, "true")
    await output_of(driver, launch)
    assert launch.directory.stat().st_mode & 0o777 == 0o700
    assert (launch.directory / "log").stat().st_mode & 0o777 == 0o600


async def test_signals_have_their_default_actions(driver: ProcessDriver, tmp_path: Path) -> None:
    """What the orchestrator ignores (SIGPIPE, as every Python; SIGHUP, under nohup) and blocks, a script does not inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        status = await output_of(driver, launch_of(tmp_path, "grep -E '^Sig(Ign|Blk)' /proc/self/status"))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGHUP, before)
    real = sum(1 << number - 1 for number in signal.valid_signals())  # glibc keeps two more to itself
    assert [int(line.split()[1], 16) & real for line in status.decode().splitlines()] == [0, 0]


async def test_inherited_descriptors_are_closed(driver: ProcessDriver, tmp_path: Path) -> None:
    """A descriptor that the orchestrator got from its own parent does not stay open in a job."""
    launch = launch_of(tmp_path, "for f in 3 5 9; do test -e /proc/$$/fd/$f && echo $f; done; echo looked")
    await driver.prepare(launch)
    shim = spawn_shim(launch, tmp_path, "exec 3</dev/null 5</dev/null 9>/dev/null;")
    assert await asyncio.to_thread(shim.communicate) == (b"looked\n", None)


async def test_job_has_a_session_of_its_own(driver: ProcessDriver, tmp_path: Path) -> None:
    """What a terminal or a service manager sends to the orchestrator's group does not reach the job."""
    fields = (await output_of(driver, launch_of(tmp_path, "cat /proc/$$/stat"))).rpartition(b") ")[2].split()
    assert int(fields[3]) not in (os.getsid(0), 0)


# -------------------------------------------------------------------------------------------------------------- shims


async def test_second_shim_runs_nothing(driver: ProcessDriver, tmp_path: Path) -> None:
    """A shim that finds the attempt taken ends at once with its own code, and leaves log and exit code alone."""
    launch = launch_of(tmp_path, "echo ran", "exit 3")
    handle = await driver.start(launch)
    assert (await driver.wait(handle)).exit_code == 3
    again = spawn_shim(launch, tmp_path)
    assert await asyncio.to_thread(again.communicate) == (b"", None)
    assert again.returncode == 120
    assert (launch.directory / "log").read_bytes() == b"ran\n"
    assert (await driver.wait(handle)).exit_code == 3


async def test_start_that_was_cut_off_after_the_spawn_is_adopted(driver: ProcessDriver, tmp_path: Path) -> None:
    """A shim of whom its starter left no word is found by its own mark; one that has none yet comes first or second."""
    launch = launch_of(tmp_path, f"echo ran >>{tmp_path}/effect", "sleep 0.2", "exit 4")
    await driver.prepare(launch)
    stray = spawn_shim(launch, tmp_path)
    handle = await driver.start(launch)
    async with asyncio.timeout(30):
        assert (await driver.wait(handle)).exit_code == 4
    await asyncio.to_thread(stray.communicate)
    assert (tmp_path / "effect").read_text() == "ran\n"


async def test_pid_with_a_new_owner_is_not_taken_for_the_shim(driver: ProcessDriver, tmp_path: Path) -> None:
    """An attempt whose pid belongs to somebody else now is lost, and that somebody is left alone."""
    launch = launch_of(tmp_path, "true")
    await driver.prepare(launch)
    stranger = await asyncio.create_subprocess_exec("sleep", "100")
    try:
        (launch.directory / "started").write_text(f"{stranger.pid}\n")
        (launch.directory / "log").touch()
        handle = await driver.start(launch)
        assert (await driver.wait(handle)).reason == Reason.LOST
        await driver.stop(handle, 0)
        await driver.remove(handle)
        assert stranger.returncode is None
        assert b"sleep" in Path(f"/proc/{stranger.pid}/cmdline").read_bytes()
    finally:
        stranger.kill()
        await stranger.wait()


async def test_killed_shim_is_told_from_an_ended_script(driver: ProcessDriver, tmp_path: Path) -> None:
    """A shim killed from outside leaves no exit code: the outcome says by what it was killed."""
    handle = await driver.start(launch_of(tmp_path, "kill -9 $PPID", "sleep 1000"))
    async with asyncio.timeout(30):
        outcome = await driver.wait(handle)
    assert (outcome.status, outcome.exit_code, outcome.reason) == (Status.FAILED, None, Reason.KILLED)
    assert "SIGKILL" in str(outcome.message)


async def test_exit_code_of_a_signal_names_it(driver: ProcessDriver, tmp_path: Path) -> None:
    """128 + n is how a shell reports signal n; the message says so."""
    outcome = await driver.wait(await driver.start(launch_of(tmp_path, "sh -c 'kill -SEGV $$'")))
    assert (outcome.exit_code, outcome.reason) == (139, Reason.EXIT_CODE)
    assert "SIGSEGV" in str(outcome.message)


async def test_cancelled_start_leaves_nothing_going_on(driver: ProcessDriver, tmp_path: Path) -> None:
    """A start that is cancelled in its midst can be removed at once, and nothing appears afterwards."""
    launch = launch_of(tmp_path, "true")
    starting = asyncio.create_task(driver.start(launch))
    await asyncio.sleep(0)
    assert launch.directory.exists()
    starting.cancel()
    await asyncio.wait({starting})
    for handle in await driver.orphans():
        await driver.remove(handle)
    assert not launch.directory.exists()


# ------------------------------------------------------------------------------------------------------------- faults


async def test_missing_shell_fails_the_start(tmp_path: Path) -> None:
    """Without a shell nothing can run; the message names it."""
    driver = ProcessDriver(ProcessSettings(attempts=tmp_path / "attempts", shell="/no/such/sh"))
    launch = launch_of(tmp_path, "true")
    with pytest.raises(DriverError, match="/no/such/sh") as caught:
        await driver.start(launch)
    assert caught.value.reason == Reason.START_FAILED
    assert await driver.find(launch.key, launch.directory) is None


async def test_no_further_process_fails_the_start(
    driver: ProcessDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EAGAIN of a fork is told as what it is, with what to do; the start may be repeated."""

    def refuse(*args: object, **kwargs: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    launch = launch_of(tmp_path, "exit 5")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_spawn", refuse)
        with pytest.raises(DriverError, match="no further process") as caught:
            await driver.start(launch)
    assert caught.value.reason == Reason.START_FAILED
    assert caught.value.hint
    assert (await driver.wait(await driver.start(launch))).exit_code == 5


@pytest.mark.parametrize(("value", "word"), [("a\0b", "null"), ("x" * 200_000, "variables")])
async def test_variable_that_no_process_takes_fails_the_start(
    driver: ProcessDriver, tmp_path: Path, value: str, word: str
) -> None:
    """A NUL, or more than the kernel's 128 KiB in one variable, is refused with a reason."""
    with pytest.raises(DriverError, match=word) as caught:
        await driver.start(launch_of(tmp_path, "true", BIG=value))
    assert caught.value.reason == Reason.START_FAILED


async def test_job_without_a_script_fails_the_start(driver: ProcessDriver, tmp_path: Path) -> None:
    """There is nothing to run."""
    key = AttemptKey("run", "job", 1)
    with pytest.raises(DriverError, match="no script"):
        await driver.start(Launch(key, JobSpec("job", "test", "process"), tmp_path / "attempts" / "x"))


async def test_directory_that_can_not_be_made_fails_the_start(driver: ProcessDriver, tmp_path: Path) -> None:
    """A path that leads through a file is an error of the start, not a crash."""
    (tmp_path / "file").touch()
    key = AttemptKey("run", "job", 1)
    launch = Launch(key, JobSpec("job", "test", "process", script=Script(("true",))), tmp_path / "file" / "attempt")
    with pytest.raises(DriverError) as caught:
        await driver.start(launch)
    assert caught.value.reason == Reason.START_FAILED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.root
async def test_full_disk_fails_the_start(small_disk: Path) -> None:
    """Where there is no room for the attempt's files, the reason is `disk_full`."""
    driver = ProcessDriver(ProcessSettings(attempts=small_disk / "attempts"))
    with pytest.raises(OSError, match="No space"):
        fill(small_disk)
    with pytest.raises(DriverError) as caught:
        await driver.start(launch_of(small_disk, "true"))
    assert caught.value.reason == Reason.DISK_FULL


@pytest.mark.root
async def test_script_that_fills_the_disk_still_has_an_exit_code(small_disk: Path) -> None:
    """The exit code needs no room of its own."""
    driver = ProcessDriver(ProcessSettings(attempts=small_disk / "attempts"))
    handle = await driver.start(launch_of(small_disk, "cat /dev/zero >fill || exit 6"))
    async with asyncio.timeout(30):
        assert (await driver.wait(handle)).exit_code == 6
    await driver.remove(handle)
    await driver.close()


async def test_hundred_megabytes_of_output_take_no_memory(driver: ProcessDriver, tmp_path: Path) -> None:
    """A log is followed in small pieces, however fast it grows."""
    size = 100 * 1024 * 1024
    handle = await driver.start(launch_of(tmp_path, f"head -c {size} /dev/zero"))
    seen = 0
    tracemalloc.start()
    try:
        async with asyncio.timeout(60):
            async for chunk in driver.logs(handle, 0):
                seen += len(chunk.data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == size
    assert peak < 2 * 1024 * 1024


async def test_many_attempts_leave_no_descriptor_and_no_zombie(driver: ProcessDriver, tmp_path: Path) -> None:
    """What the driver opens for an attempt is closed when that is over, also when nobody waits for it."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    known = children()
    handles = []
    for i in range(10):
        key = AttemptKey("run", f"job{i}", 1)
        job = JobSpec(key.job, "test", "process", script=Script(("true",)))
        handles.append(await driver.start(Launch(key, job, tmp_path / "attempts" / key.name)))
    for handle in handles:
        assert (await driver.wait(handle)).exit_code == 0
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert children() <= known
