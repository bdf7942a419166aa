"""What a server is called, and the file that tokens are kept in."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from stretto.client.credentials import delete_token, known_servers, read_token, write_token
from stretto.client.target import Target, check_token, normalize
from stretto.core.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Stretto.Example.org/", "https://stretto.example.org"),
        ("https://example.org:443/ci/", "https://example.org/ci"),
        ("http://127.0.0.1:8420", "http://127.0.0.1:8420"),
        ("http://[::1]:80", "http://[::1]"),
        (" https://example.org ", "https://example.org"),
    ],
)
def test_url_has_one_spelling(url: str, expected: str) -> None:
    """So that a token is found again however its server is written."""
    assert normalize(url) == expected


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org", "https://", "https://example.org:99999", "https://example.org/?a=b",
     "https://example.org/#x", "https://exa mple.org", "https://example.org/\nx", "https://exämple.org", "http://[::1"],
)  # fmt: skip
def test_url_that_is_none_is_refused(url: str) -> None:
    """The hint shows one that is good."""
    with pytest.raises(SettingsError) as caught:
        normalize(url)
    assert "https://stretto.example.org" in str(caught.value.hint)


@pytest.mark.parametrize("url", ["https://ann:secret@example.org", "https://secret@example.org"])
def test_url_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    """A token has no place where histories and logs see it."""
    with pytest.raises(SettingsError, match="credentials") as caught:
        normalize(url)
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("token", ["", "  ", "two words", "line\nbreak", "ümlaut", "\x00"])
def test_token_that_fits_no_header_is_refused(token: str) -> None:
    """Before it gets anywhere."""
    with pytest.raises(SettingsError) as caught:
        check_token(token)
    assert not token.strip() or token not in caught.value.message


@pytest.mark.parametrize(
    ("url", "is_here", "is_secure"),
    [
        ("http://127.0.0.1:1", True, True),
        ("http://[::1]:1", True, True),
        ("http://localhost", True, True),
        ("https://example.org", False, True),
        ("http://example.org", False, False),
        ("http://127.0.0.1.example.org", False, False),
    ],
)
def test_target_knows_who_can_listen(url: str, is_here: bool, is_secure: bool) -> None:
    """On loopback and with TLS nobody on the way can."""
    assert (Target(url).is_here, Target(url).is_secure) == (is_here, is_secure)


def test_tokens_are_kept_by_url_for_their_owner_only(tmp_path: Path) -> None:
    """Written, read, replaced and forgotten, with quotes and all; never open to others."""
    path = tmp_path / "config" / "credentials.toml"
    write_token(path, "https://a", 'quo"te\\')
    write_token(path, "https://b", "two")
    write_token(path, "https://b", "three")
    assert (read_token(path, "https://a"), read_token(path, "https://b")) == ('quo"te\\', "three")
    assert read_token(path, "https://c") is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert delete_token(path, "https://a")
    assert not delete_token(path, "https://a")
    assert known_servers(path) == ["https://b"]
    assert [each.name for each in path.parent.iterdir()] == ["credentials.toml"]


def test_tokens_that_others_may_read_are_not_used(tmp_path: Path) -> None:
    """The hint says how to close the file."""
    path = tmp_path / "credentials.toml"
    write_token(path, "https://a", "one")
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="may be read by others") as caught:
        read_token(path, "https://a")
    assert caught.value.hint == f"chmod 600 {path}"


def test_broken_file_of_tokens_is_told_and_left_alone(tmp_path: Path) -> None:
    """What can't be read is not overwritten either."""
    path = tmp_path / "credentials.toml"
    path.write_text("[nonsense")
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="can't be read"):
        write_token(path, "https://a", "one")
    assert path.read_text() == "[nonsense"
