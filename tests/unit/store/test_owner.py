"""Who is alive, as far as this host can tell."""

from __future__ import annotations

import subprocess
from dataclasses import replace

from stretto.store import owner


def test_this_process_is_not_dead() -> None:
    """The process that asks is alive."""
    assert not owner.is_known_dead(owner.this_process())


def test_later_process_with_the_same_pid_is_another() -> None:
    """A pid that was given to another process since counts as dead."""
    assert owner.is_known_dead(replace(owner.this_process(), start=1))


def test_zombie_is_dead() -> None:
    """A killed process that nobody has waited for yet is dead."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    status = owner._stat(child.pid)
    assert status is not None
    process = replace(owner.this_process(), pid=child.pid, start=status[1])
    assert not owner.is_known_dead(process)
    child.kill()
    while (status := owner._stat(child.pid)) is not None and status[0] != "Z":
        pass
    assert owner.is_known_dead(process)
    child.communicate()
    assert owner.is_known_dead(process)


def test_process_of_another_realm_is_unknown() -> None:
    """Of another host, boot or container nothing is known, so nothing there is called dead."""
    assert not owner.is_known_dead(replace(owner.this_process(), realm="elsewhere", pid=1, start=1))
