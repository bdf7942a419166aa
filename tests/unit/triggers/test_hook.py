"""Which deliveries a hook wants, and which hooks can't be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from stretto.core.errors import InputError
from stretto.triggers.delivery import Delivery, Trigger
from stretto.triggers.hook import Hook, matches
from stretto.triggers.order import Order
from stretto.triggers.place import Place, place_of

HOOK = Hook("0123456789abcdef", "github", "s" * 32, Order("https://github.com/acme/words"))
PUSH = Delivery(
    event="push",
    repositories=("https://github.com/Acme/words.git", "git@github.com:Acme/words.git"),
    trigger=Trigger.PUSH,
    branch="main",
    target="main",
    files=frozenset({"src/count.py", "docs/guide.md"}),
)


@pytest.mark.parametrize(
    ("hook", "delivery", "why"),
    [
        (HOOK, PUSH, None),
        (replace(HOOK, enabled=False), PUSH, "disabled"),
        (HOOK, replace(PUSH, ignored="main was deleted"), "main was deleted"),
        (HOOK, replace(PUSH, repositories=("https://github.com/acme/other",)), "another repository"),
        (HOOK, replace(PUSH, repositories=("https://evil.example/acme/words",)), "another repository"),
        (HOOK, replace(PUSH, repositories=()), "another repository"),
        (HOOK, replace(PUSH, trigger=Trigger.PULL_REQUEST), "pull_request"),
        (replace(HOOK, events=(Trigger.TAG,)), PUSH, "push"),
        (replace(HOOK, branches=("release/*",)), PUSH, "branch pattern"),
        (replace(HOOK, branches=("ma*",)), PUSH, None),
        (replace(HOOK, branches=("!main",)), PUSH, "branch pattern"),
        (replace(HOOK, branches=("faster",)), replace(PUSH, branch="faster"), "branch pattern"),
        (replace(HOOK, paths=("src/*",)), PUSH, None),
        (replace(HOOK, paths=("web/*",)), PUSH, "path pattern"),
        (replace(HOOK, paths=("!docs/*",)), replace(PUSH, files=frozenset({"docs/guide.md"})), "path pattern"),
        (replace(HOOK, paths=("!docs/*",)), PUSH, None),
        (replace(HOOK, paths=("web/*",)), replace(PUSH, files=None), None),
    ],
)
def test_hook_says_why_it_does_not_want_a_delivery(hook: Hook, delivery: Delivery, why: str | None) -> None:
    """None where it does; files that are not known count as changed."""
    told = hook.why_not(delivery)
    assert told is None if why is None else why in (told or "")


@pytest.mark.parametrize(
    ("name", "patterns", "passes"),
    [
        ("main", (), True),
        ("a/b/c", ("a/*",), True),
        ("main", ("main", "!main"), False),
        ("main", ("!*", "main"), True),
        ("dev", ("!main",), True),
        ("Main", ("main",), False),
    ],
)
def test_last_pattern_that_matches_decides(name: str, patterns: tuple[str, ...], passes: bool) -> None:
    """Patterns are read in order, and letters count as they are written."""
    assert matches(name, patterns) is passes


@pytest.mark.parametrize(
    "change",
    [
        lambda hook: replace(hook, kind="svn"),
        lambda hook: replace(hook, secret="short"),
        lambda hook: replace(hook, secret="x" * 300),
        lambda hook: replace(hook, secret="with a blank in the middle"),
        lambda hook: replace(hook, secret="with-a-line-break\n"),
        lambda hook: replace(hook, kind="gitlab", secret="whsec_!!!!!!!!!!!!!!!!"),
        lambda hook: replace(hook, events=()),
        lambda hook: replace(hook, branches=("",)),
        lambda hook: replace(hook, paths=("a\x00b",)),
        lambda hook: replace(hook, order=Order("words")),
        lambda hook: replace(hook, order=replace(hook.order, variables={"": "x"})),
        lambda hook: replace(hook, order=replace(hook.order, variables={"A": "x" * 5000})),
        lambda hook: replace(hook, order=replace(hook.order, priority=10**9)),
        lambda hook: replace(hook, order=replace(hook.order, file="")),
    ],
)
def test_hook_that_can_not_work_is_refused(change: Callable[[Hook], Hook]) -> None:
    """Each fault is told when the hook is made, not when a delivery comes."""
    HOOK.check()
    with pytest.raises(InputError):
        change(HOOK).check()


def test_hook_never_shows_its_secret() -> None:
    """A hook that gets into a log or a traceback leaves its secret out."""
    assert HOOK.secret not in repr(HOOK)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("https://github.com/Acme/Words.git", Place("github.com", "acme/words")),
        ("https://user:pw@GitHub.com:443/acme/words/", Place("github.com", "acme/words")),
        ("ssh://git@git.example.com:2222/acme/words.git", Place("git.example.com", "acme/words")),
        ("git@git.example.com:acme/words.git", Place("git.example.com", "acme/words")),
        ("git.example.com:acme/words", Place("git.example.com", "acme/words")),
        ("file:///srv/git/Words.git", Place("", "/srv/git/Words")),
        ("/srv/git/Words", Place("", "/srv/git/Words")),
        ("words", None),
        ("https://", None),
        ("https://github.com", None),
        ("https://[::1/x", None),
        ("", None),
    ],
)
def test_addresses_of_one_repository_name_the_same_place(address: str, place: Place | None) -> None:
    """However it is reached, and however forges write it."""
    assert place_of(address) == place
