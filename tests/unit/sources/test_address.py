"""What a text for a repository means."""

from __future__ import annotations

from pathlib import Path

import pytest

from stretto.core.errors import SourceError
from stretto.sources.address import parse

CWD = Path("/somewhere")


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("https://Example.org/team/app.git/", "https://example.org/team/app.git"),
        ("https://user:secret@example.org:8443/app", "https://example.org:8443/app"),
        ("http://token@example.org/app?x=1#y", "http://example.org/app"),
        ("ssh://git@example.org:2222/team/app.git", "ssh://git@example.org:2222/team/app.git"),
        ("ssh://git:secret@example.org/app", "ssh://git@example.org/app"),
        ("ssh://[::1]:22/app", "ssh://[::1]:22/app"),
        ("git@example.org:team/app.git", "git@example.org:team/app.git"),
        ("example.org:app/", "example.org:app"),
        ("file:///data/my%20app", "/data/my app"),
        ("file://localhost/data/app", "/data/app"),
        ("../app", "/app"),
        ("app", "/somewhere/app"),
        (Path("a:b"), "/somewhere/a:b"),
    ],
)
def test_address_has_a_canonical_name_without_credentials(reference: str | Path, repository: str) -> None:
    """The name is one that git can fetch from, with no secret in it."""
    assert parse(reference, CWD).repository == repository


@pytest.mark.parametrize(
    "reference",
    [
        "", " ", "a\nb", "a\0b", "-uhelper", "--upload-pack=x", "ext::sh -c id", "fd::7", "EXT::x", "git://example.org/app",
        "ftp://example.org/app", "https://", "https:///app", "https://example.org", "ssh://-oProxyCommand=x/app",
        "ssh://-l@example.org/app", "https://example.org:port/app", "https://[::1/app", "git@-oProxyCommand=x:app",
        "git@example.org:-app", "git@example.org:", "file://elsewhere/app", "javascript://x/y",
    ],
)  # fmt: skip
def test_address_refuses_what_is_none(reference: str) -> None:
    """Other transports, options in disguise and texts that name nothing are refused with what to do."""
    with pytest.raises(SourceError):
        parse(reference, CWD)


def test_address_error_shows_no_credentials() -> None:
    """A refused URL is shown without its password."""
    with pytest.raises(SourceError) as caught:
        parse("ftp://user:secret@example.org/app", CWD)
    assert "secret" not in caught.value.message


def test_address_gives_git_its_credentials_by_the_environment() -> None:
    """Name and password are variables, and the helpers set up before are switched off for this host only."""
    address = parse("https://user:se%20cret@example.org/app", CWD)
    variables = address.environment()
    assert variables["STRETTO_GIT_USERNAME"] == "user"
    assert variables["STRETTO_GIT_PASSWORD"] == "se cret"
    keys = [value for name, value in variables.items() if name.startswith("GIT_CONFIG_KEY_")]
    assert set(keys) == {"credential.https://example.org.username", "credential.https://example.org.helper"}


def test_address_slug_differs_where_repositories_do() -> None:
    """Two repositories of one name have different file names, each with the name in it."""
    one, other = parse("https://example.org/a/app.git", CWD), parse("https://example.org/b/app.git", CWD)
    assert one.slug != other.slug
    assert one.slug.startswith("app-")
    assert other.slug.startswith("app-")
