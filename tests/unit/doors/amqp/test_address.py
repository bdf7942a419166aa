"""The URL of the queue: what is refused, and that no password is ever shown."""

from __future__ import annotations

import pytest

from stretto.core.errors import SettingsError
from stretto.doors.amqp.address import check_url, hide_password, mask


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:s3cret@host:5672/team", "amqp://me:***@host:5672/team"),
        ("amqps://me:s3%2Fcret@host/?cafile=/etc/ca.pem&s3cret=1", "amqps://me:***@host/"),
        ("amqp://me:s3cret@[::1]:5672/", "amqp://me:***@[::1]:5672/"),
        ("amqp://me@host", "amqp://me@host"),
        ("amqp://host/%2F", "amqp://host/%2F"),
    ],
)
def test_mask_hides_the_password_and_the_options(url: str, shown: str) -> None:
    """User, host, port and virtual host stay, for a person to recognise the place."""
    assert mask(url) == check_url(url) == shown


@pytest.mark.parametrize(
    "url",
    ["", "s3cret", "http://me:s3cret@host/", "amqp://me:s3cret@/", "amqp://me:s3cret@host:port/", "amqp://[s3cret"],
)
def test_check_url_refuses_what_leads_nowhere_without_showing_it(url: str) -> None:
    """The message says how a URL is written and holds nothing of this one."""
    with pytest.raises(SettingsError) as caught:
        check_url(url)
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}{mask(url)}"
    assert "amqp://" in (caught.value.hint or "")


def test_hide_password_finds_it_written_both_ways() -> None:
    """A library may print the password as it stands in the URL or decoded."""
    url = "amqp://me:a%2Fb@host/"
    assert hide_password("tried a/b, then a%2Fb", url) == "tried ***, then ***"
