"""Who a delivery is from, by each forge's rule, and what tells that it came before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.triggers.signature import TOLERANCE_S, is_signed, replay_key
from tests.unit.triggers import payload

NOW = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
OTHER = "another-secret-of-another-hook-0"
BODY = payload.body_of(payload.github_push())
GITLAB_BODY = payload.body_of(payload.gitlab_push())

SIGNED = {
    "github": ("github", payload.GITHUB_SECRET, payload.github_headers(BODY), BODY),
    "gitea": ("gitea", payload.GITHUB_SECRET, payload.gitea_headers(BODY), BODY),
    "forgejo": ("forgejo", payload.GITHUB_SECRET, payload.gitea_headers(BODY, kind="forgejo"), BODY),
    "gitlab signed": (
        *("gitlab", payload.GITLAB_SIGNING, payload.gitlab_signed_headers(GITLAB_BODY, NOW.timestamp())),
        GITLAB_BODY,
    ),
}
WITH_TOKEN = ("gitlab", payload.GITLAB_TOKEN, payload.gitlab_headers(), GITLAB_BODY)
ALL = SIGNED | {"gitlab token": WITH_TOKEN}
SIGNATURES = ("x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature", "webhook-signature", "x-gitlab-token")


@pytest.mark.parametrize("name", ALL)
def test_signature_of_the_forge_is_right(name: str) -> None:
    """What the forge sends with the hook's secret is let in."""
    kind, secret, headers, body = ALL[name]
    assert is_signed(kind, secret, headers, body, now=NOW)


@pytest.mark.parametrize("name", ALL)
def test_signature_with_the_secret_of_another_hook_is_wrong(name: str) -> None:
    """Each hook lets in its own secret only, of either form."""
    kind, secret, headers, body = ALL[name]
    other = payload.GITLAB_SIGNING[:-6] + "AAAAA=" if secret.startswith("whsec_") else OTHER
    assert not is_signed(kind, other, headers, body, now=NOW)
    assert not is_signed(kind, "", headers, body, now=NOW), "no secret is no secret that everybody has"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [None, "", "sha256=", "v1,", "0" * 64, "sha256=" + "0" * 64, "é", "\udc80"])
def test_signature_that_is_missing_or_made_up_is_wrong(name: str, value: str | None) -> None:
    """Without a signature, or with any text in its place, nothing gets in."""
    kind, secret, headers, body = ALL[name]
    changed = {key: text for key, text in headers.items() if key not in SIGNATURES}
    if value is not None:
        changed |= {key: value for key in headers if key in SIGNATURES}
    assert not is_signed(kind, secret, changed, body, now=NOW)


@pytest.mark.parametrize("name", SIGNED)
@given(data=st.data())
def test_signature_does_not_hold_for_a_body_with_any_byte_altered(name: str, data: st.DataObject) -> None:
    """Whichever byte is changed, taken out or put in, the delivery is not let in."""
    kind, secret, headers, body = SIGNED[name]
    at = data.draw(st.integers(0, len(body) - 1))
    byte = data.draw(st.integers(0, 255))
    altered = data.draw(
        st.sampled_from(
            [body[:at] + bytes([byte]) + body[at + 1 :], body[:at] + body[at + 1 :], body[:at] + b" " + body[at:]]
        )
    )
    assert is_signed(kind, secret, headers, altered, now=NOW) == (altered == body)


@pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp"])
def test_gitlab_signature_covers_id_and_time(header: str) -> None:
    """A signed delivery can't be sent again under another id or time."""
    kind, secret, headers, body = SIGNED["gitlab signed"]
    later = headers | {header: headers[header][:-1] + ("0" if headers[header][-1] != "0" else "1")}
    assert not is_signed(kind, secret, later, body, now=NOW)


@pytest.mark.parametrize(("off_s", "held"), [(0, True), (TOLERANCE_S, True), (TOLERANCE_S + 1, False), (-400, False)])
def test_gitlab_signature_holds_for_some_minutes(off_s: int, held: bool) -> None:
    """A signed delivery of long ago, or of the time to come, is not let in."""
    kind, secret, headers, body = SIGNED["gitlab signed"]
    assert is_signed(kind, secret, headers, body, now=NOW + timedelta(seconds=off_s)) is held


@pytest.mark.parametrize("told", ["", "-1", "1e9", "9" * 400, "١٢٣", "nan"])
def test_gitlab_signature_with_a_time_that_is_none_is_wrong(told: str) -> None:
    """What is no time is not let in, and is no error."""
    kind, secret, headers, body = SIGNED["gitlab signed"]
    assert not is_signed(kind, secret, headers | {"webhook-timestamp": told}, body, now=NOW)


def test_gitlab_hook_with_a_signing_token_takes_no_plain_token() -> None:
    """A secret that signs is never accepted as it is: it would have been sent over the net."""
    headers = payload.gitlab_headers(token=payload.GITLAB_SIGNING)
    assert not is_signed("gitlab", payload.GITLAB_SIGNING, headers, GITLAB_BODY, now=NOW)


def test_gitlab_signature_may_be_one_of_several() -> None:
    """While a signing key is being changed, a delivery has a signature by each."""
    kind, secret, headers, body = SIGNED["gitlab signed"]
    both = headers | {"webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}
    assert is_signed(kind, secret, both, body, now=NOW)


def test_gitea_signature_of_its_own_goes_before_that_of_github() -> None:
    """A right signature in one header does not make up for a wrong one in the forge's own."""
    kind, secret, headers, body = SIGNED["gitea"]
    assert not is_signed(kind, secret, headers | {"x-gitea-signature": "0" * 64}, body, now=NOW)
    del headers["x-gitea-signature"]
    assert is_signed(kind, secret, headers, body, now=NOW)


def test_replay_key_is_not_fooled_by_another_delivery_id() -> None:
    """GitHub's id stands in a header that is not signed: a body is the same delivery whatever the id."""
    one = replay_key("github", payload.github_headers(BODY, delivery="1"), BODY)
    assert one == replay_key("github", payload.github_headers(BODY, delivery="2"), BODY)
    assert one != replay_key("github", payload.github_headers(BODY, delivery="1"), BODY + b" ")


def test_replay_key_of_gitlab_is_its_own() -> None:
    """Two pushes may have the same body there; the id tells them apart, and a repeated one has the same."""
    one = replay_key("gitlab", payload.gitlab_headers(delivery="1"), GITLAB_BODY)
    assert one == replay_key("gitlab", payload.gitlab_headers(delivery="1"), GITLAB_BODY)
    assert one != replay_key("gitlab", payload.gitlab_headers(delivery="2"), GITLAB_BODY)
