"""What every driver does that runs scripts, on each harness that has the capability `shell`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stretto.core.errors import DriverError
from stretto.core.events import Outcome
from stretto.core.ports import Driver, Launch, Tree
from stretto.core.spec import Script
from stretto.core.states import Reason, Status
from tests.conformance.drivers import HARNESSES, harnesses_with
from tests.conformance.drivers.harness import SHELL, TREE, ShellHarness
from tests.conformance.test_drivers import PATIENCE_S, end_of, first_log, log_of

ROOMY = 1_000_000
"""More bytes than any test's artifacts have."""


@pytest.fixture(params=harnesses_with(SHELL, TREE))
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellHarness]:
    """A back-end with nothing on it."""
    harness = HARNESSES[request.param](tmp_path)
    yield harness
    await harness.close()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Two layers, of which the first hides a file of the second."""
    upper, base = tmp_path / "upper", tmp_path / "base"
    for path, text in {
        upper / "both": "from upper",
        base / "both": "from base",
        base / "only": "only base",
        base / "sub/deep": "deep",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (base / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (base / "run.sh").chmod(0o755)
    return Tree((upper, base))


async def run(driver: Driver, launch: Launch) -> tuple[bytes, Outcome]:
    """Return the output and the outcome of a whole attempt, which stays where it is."""
    handle = await driver.start(launch)
    log, outcome = await asyncio.gather(log_of(driver, handle), end_of(driver, handle))
    return log, outcome


# ------------------------------------------------------------------------------------------------------------ scripts


@pytest.mark.parametrize(
    ("lines", "output", "code"),
    [
        (("x=1", "cd sub", "echo $x $(basename $PWD)"), b"1 sub\n", 0),
        (("echo one", "false", "echo two"), b"one\n", 1),
        (("echo 'hello world'", "echo next"), b"hello world\nnext\n", 0),
        (
            ("cat <<END\na 'quoted' \"line\"\n$((1 + 1)) `echo x`\nEND", "echo after"),
            b"a 'quoted' \"line\"\n2 x\nafter\n",
            0,
        ),
        (("if true; then", "echo inside", "fi"), b"inside\n", 0),
        (('f() {\n  echo "$1 && $2"\n}', "f 'a b' c"), b"a b && c\n", 0),
        (("(exit 7)",), b"", 7),
        (("exit 42", "echo never"), b"", 42),
        (("false || true", "! true", "echo kept"), b"kept\n", 0),
        (("true # comment", "echo '#no comment'"), b"#no comment\n", 0),
        (("", "  ", "echo blank lines"), b"blank lines\n", 0),
        ((), b"", 0),
    ],
)
async def test_script_runs_in_one_shell(
    harness: ShellHarness, driver: Driver, tree: Tree, lines: tuple[str, ...], output: bytes, code: int
) -> None:
    """The items of a script are lines of one shell, taken as they are, that stops at the first failure."""
    log, outcome = await run(driver, harness.launch_script(Script(lines), tree=tree))
    assert (log, outcome.exit_code) == (output, code)


async def test_script_with_a_syntax_error_fails_and_says_so(harness: ShellHarness, driver: Driver) -> None:
    """What the shell says of a script it can't read is in the log."""
    log, outcome = await run(driver, harness.launch_script(Script(("if then",))))
    assert outcome.status is Status.FAILED
    assert b"yntax error" in log


async def test_script_with_an_unknown_command_ends_with_127(harness: ShellHarness, driver: Driver) -> None:
    """A command that does not exist is a failure of the script, with the shell's word for it in the log."""
    log, outcome = await run(driver, harness.launch_script(Script(("no-such-command-here",))))
    assert (outcome.exit_code, outcome.reason) == (127, Reason.EXIT_CODE)
    assert b"no-such-command-here" in log


async def test_before_runs_in_the_shell_of_main(harness: ShellHarness, driver: Driver) -> None:
    """What `before` sets, `main` sees; what fails in `before` ends the script."""
    log, outcome = await run(driver, harness.launch_script(Script(("echo $x",), before=("x='set before'",))))
    assert (log, outcome.exit_code) == (b"set before\n", 0)
    log, outcome = await run(driver, harness.launch_script(Script(("echo main",), before=("exit 3",))))
    assert (log, outcome.exit_code) == (b"", 3)


@pytest.mark.parametrize(("main", "code"), [("true", 0), ("exit 5", 5), ("kill -9 $$", 137)])
async def test_after_runs_whatever_happened(harness: ShellHarness, driver: Driver, main: str, code: int) -> None:
    """`after` has a shell of its own, runs when the script failed too, and does not change the outcome."""
    script = Script((main,), before=("x=1; echo main",), after=("echo after ${x-unset}", "exit 9"))
    log, outcome = await run(driver, harness.launch_script(script))
    assert log == b"main\nafter unset\n"
    assert outcome.exit_code == code


async def test_stdout_and_stderr_are_one_stream_in_order(harness: ShellHarness, driver: Driver) -> None:
    """Output of both kinds is in the log in the order it was written."""
    lines = ("i=0", "while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done")
    log, _ = await run(driver, harness.launch_script(Script(lines)))
    assert log == b"".join(b"out %d\nerr %d\n" % (i, i) for i in range(200))


async def test_standard_input_is_empty(harness: ShellHarness, driver: Driver) -> None:
    """A script that reads its input gets its end at once, and not the script's own lines."""
    log, outcome = await run(driver, harness.launch_script(Script(("cat", "read x || echo end"))))
    assert (log, outcome.exit_code) == (b"end\n", 0)


async def test_big_output_comes_whole(harness: ShellHarness, driver: Driver) -> None:
    """Eight megabytes come byte for byte, also when the log is taken up in the middle."""
    line = "0123456789abcdef" * 8
    lines = (
        f"i=0; while [ $i -lt 1024 ]; do echo {line}; i=$((i+1)); done >part",
        "i=0; while [ $i -lt 64 ]; do cat part; i=$((i+1)); done",
    )
    handle = await driver.start(harness.launch_script(Script(lines)))
    expected = f"{line}\n".encode() * 1024 * 64
    head, position = await first_log(driver, handle, 3_000_000)
    whole = head + await log_of(driver, handle, position)
    assert hashlib.sha256(whole).digest() == hashlib.sha256(expected).digest()


# -------------------------------------------------------------------------------------------------- environment, place


@pytest.mark.parametrize(
    "value",
    [
        "",
        " two  spaces ",
        "line\nline\n",
        'it\'s "quoted"',
        "$HOME `id` $(id) \\n",
        "ünï→",
        "a=b;c&d|e",
        "*",
        "-n",
        "x" * 5000,
    ],
)
async def test_variables_arrive_exactly(harness: ShellHarness, driver: Driver, value: str) -> None:
    """No shell, file or engine on the way changes a variable's value."""
    script = Script(('printf %s "$VALUE"', "env >/dev/null"))
    log, _ = await run(driver, harness.launch_script(script, variables={"VALUE": value}))
    assert log == value.encode()


async def test_script_starts_in_the_tree(harness: ShellHarness, driver: Driver, tree: Tree) -> None:
    """A script sees its tree's files, the earlier layer's where both have one, with their modes."""
    lines = ("cat both only sub/deep", "./run.sh", "test ! -e nothing", "ls")
    log, _ = await run(driver, harness.launch_script(Script(lines), tree=tree))
    assert log == b"from upperonly basedeepran\nboth\nonly\nrun.sh\nsub\n"


async def test_script_without_a_tree_starts_in_an_empty_directory(harness: ShellHarness, driver: Driver) -> None:
    """Nothing is there, and files can be made."""
    log, outcome = await run(driver, harness.launch_script(Script(("ls -A", "echo x >f", "cat f"))))
    assert (log, outcome.exit_code) == (b"x\n", 0)


async def test_working_directory_is_relative_to_the_tree(harness: ShellHarness, driver: Driver, tree: Tree) -> None:
    """A script, and its `after`, start where the job says."""
    script = Script(("cat deep",), after=("cat deep",))
    log, _ = await run(driver, harness.launch_script(script, tree=tree, working_directory="sub"))
    assert log == b"deepdeep"


@pytest.mark.parametrize("place", ["missing", "both", "../..", "/"])
async def test_working_directory_that_is_none_is_refused(
    harness: ShellHarness, driver: Driver, tree: Tree, place: str
) -> None:
    """A directory that is missing, a file or outside of the tree fails the attempt without running it, and leaves nothing."""
    launch = harness.launch_script(Script(("echo ran",)), tree=tree, working_directory=place)
    with pytest.raises(DriverError) as caught:
        await driver.start(launch)
    assert caught.value.reason == Reason.START_FAILED
    assert "working_directory" in caught.value.message
    for handle in await driver.orphans():
        await driver.remove(handle)
    assert harness.left(launch) == []


async def test_trees_are_private(harness: ShellHarness, driver: Driver, tree: Tree) -> None:
    """Two attempts on one checkout do not see what the other does to it, and the checkout stays as it was."""
    lines = ("echo mine >>only", "rm both", "echo new >new", "cat only", "ls")
    both = await asyncio.gather(*(run(driver, harness.launch_script(Script(lines), tree=tree)) for _ in range(2)))
    assert {log for log, _ in both} == {b"only basemine\nnew\nonly\nrun.sh\nsub\n"}
    base = tree.lowers[-1]
    assert (base / "only").read_text() == "only base"
    assert (base / "both").exists()
    assert not (base / "new").exists()


async def test_tree_that_is_gone_is_its_own_failure(harness: ShellHarness, driver: Driver, tmp_path: Path) -> None:
    """A checkout that is not there fails the start with `tree_failed`."""
    launch = harness.launch_script(Script(("true",)), tree=Tree((tmp_path / "gone",)))
    with pytest.raises(DriverError) as caught:
        await driver.start(launch)
    assert caught.value.reason == Reason.TREE_FAILED


# ---------------------------------------------------------------------------------------------------------- artifacts


async def test_collect_returns_what_was_made_or_changed(harness: ShellHarness, driver: Driver, tree: Tree) -> None:
    """Artifacts are the matching files that the attempt made or changed, with size and mode; others are not."""
    lines = (
        "mkdir -p out/deep",
        "printf 12345 >out/deep/a",
        "printf x >out/b",
        "chmod +x out/b",
        "printf new >only",
        "echo >other",
    )
    handle = await driver.start(harness.launch_script(Script(lines), tree=tree))
    await end_of(driver, handle)
    files = {file.path: file for file in await driver.collect(handle, ["out", "only", "both", "none*"], ROOMY)}
    assert {path: file.size_bytes for path, file in files.items()} == {"out/deep/a": 5, "out/b": 1, "only": 3}
    assert files["out/b"].executable
    assert not files["out/deep/a"].executable
    assert files["only"].source.read_bytes() == b"new"


async def test_collect_works_on_a_failed_attempt_and_keeps_to_the_limit(
    harness: ShellHarness, driver: Driver, tree: Tree
) -> None:
    """A failed attempt's files can be had; more than the limit is `artifacts_failed`."""
    handle = await driver.start(harness.launch_script(Script(("printf 12345 >report", "exit 1")), tree=tree))
    await end_of(driver, handle)
    assert [file.path for file in await driver.collect(handle, ["report"], ROOMY)] == ["report"]
    with pytest.raises(DriverError) as caught:
        await driver.collect(handle, ["report"], 4)
    assert caught.value.reason == Reason.ARTIFACTS_FAILED


# ---------------------------------------------------------------------------------------------------- stop and remove


async def test_stop_lets_a_script_clean_up(harness: ShellHarness, driver: Driver) -> None:
    """A script that catches TERM may end in its own way, within the grace time; `after` runs too."""
    lines = ("trap 'echo cleaning; exit 7' TERM", "echo ready", "while :; do sleep 0.05; done")
    handle = await driver.start(harness.launch_script(Script(lines, after=("echo after",))))
    await first_log(driver, handle, 6)
    async with asyncio.timeout(PATIENCE_S):
        await driver.stop(handle, PATIENCE_S)
    assert (await end_of(driver, handle)).exit_code == 7
    log = await log_of(driver, handle)
    assert log.startswith(b"ready\n")
    assert log.endswith(b"cleaning\nafter\n")


async def test_stop_and_remove_reach_every_process(harness: ShellHarness, driver: Driver) -> None:
    """Background processes, process groups and daemons of an attempt are gone with it."""
    lines = (
        "sleep 1000 &",
        "(trap '' TERM HUP; setsid sh -c 'sleep 1000 & sleep 1000' </dev/null >/dev/null 2>&1 &)",
        "echo ready",
        "sleep 1000",
    )
    launch = harness.launch_script(Script(lines))
    handle = await driver.start(launch)
    await first_log(driver, handle, 6)
    async with asyncio.timeout(PATIENCE_S):
        await driver.stop(handle, 0.2)
        await driver.remove(handle)
    assert harness.left(launch) == []


async def test_remove_takes_a_daemon_with_it(harness: ShellHarness, driver: Driver) -> None:
    """A daemon that outlives its script does not outlive the attempt, nor does it keep the attempt from being over."""
    lines = ("(setsid sh -c 'trap \"\" TERM; sleep 1000; :' </dev/null >/dev/null 2>&1 &)", "echo done")
    launch = harness.launch_script(Script(lines))
    log, outcome = await run(driver, launch)
    assert (log, outcome.exit_code) == (b"done\n", 0)
    handle = await driver.start(launch)
    await driver.remove(handle)
    assert harness.left(launch) == []


async def test_remove_deletes_a_tree_without_permissions(harness: ShellHarness, driver: Driver, tree: Tree) -> None:
    """Directories that a script made read-only, and odd names, do not stay."""
    lines = ("mkdir -p a/b", "echo >a/b/c", "chmod 0 a/b a", "touch -- '-x' 'a b' \"new\nline\"", "ln -s / root")
    launch = harness.launch_script(Script(lines), tree=tree)
    _, outcome = await run(driver, launch)
    assert outcome.exit_code == 0
    await driver.remove(await driver.start(launch))
    assert harness.left(launch) == []
