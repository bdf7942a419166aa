"""Whether a delivery comes from the forge that has the hook's secret, and what tells that it came before.

GitHub signs the body (`X-Hub-Signature-256`: `sha256=` and the hex HMAC-SHA256), as do Gitea (`X-Gitea-Signature`) and Forgejo
(`X-Forgejo-Signature`: the hex digest alone). GitLab sends its secret token as it is (`X-Gitlab-Token`), or, given a signing
token (`whsec_` and the key in base64), signs id, time and body as Standard Webhooks has it (`webhook-signature`: `v1,` and the
digest in base64).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Final

SIGNING_TOKEN: Final = "whsec_"
"""How a secret of GitLab begins that signs, instead of being sent."""
TOLERANCE_S: Final = 300
"""How far the time in a signature may be off, as Standard Webhooks advises."""

HEX_HEADERS: Final = {
    "github": ("x-hub-signature-256",),
    "gitea": ("x-gitea-signature", "x-hub-signature-256"),
    "forgejo": ("x-forgejo-signature", "x-gitea-signature", "x-hub-signature-256"),
}
"""By kind: the headers that may have the signature; the first that is there must hold."""


def is_signed(kind: str, secret: str, headers: Mapping[str, str], body: bytes, *, now: datetime) -> bool:
    """Say whether the delivery was made with `secret`; names of `headers` are in small letters."""
    if not secret:
        return False
    if kind == "gitlab":
        if secret.startswith(SIGNING_TOKEN):
            return _is_signed_by_standard(secret, headers, body, now)
        return _equal(headers.get("x-gitlab-token", ""), secret)
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    for name in HEX_HEADERS[kind]:
        if name in headers:
            prefix = "sha256=" if name == "x-hub-signature-256" else ""
            return _equal(headers[name], prefix + expected)
    return False


def signing_key(secret: str) -> bytes | None:
    """Return the key in a signing token of GitLab; None if it is none."""
    try:
        return b64decode(secret.removeprefix(SIGNING_TOKEN), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def replay_key(kind: str, headers: Mapping[str, str], body: bytes) -> str:
    """Return what is the same each time a delivery comes.

    The id that GitHub and Gitea give stands in a header that nothing protects, so the body is what counts; repeated on purpose,
    it is the same too. GitLab's bodies may be the same for two pushes (there and back), so its id counts, where it has one:
    that is signed, or else no better protected than the body.
    """
    if kind == "gitlab" and (given := headers.get("webhook-id") or headers.get("idempotency-key")):
        return hashlib.sha256(given.encode()).hexdigest()
    return hashlib.sha256(body).hexdigest()


def _is_signed_by_standard(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    key = signing_key(secret)
    identity, told = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if key is None or not identity or not (told.isascii() and told.isdigit() and len(told) < 12):
        return False
    if abs(now.timestamp() - int(told)) > TOLERANCE_S:
        return False
    signed = identity.encode() + b"." + told.encode() + b"." + body
    expected = "v1," + b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    # several, parted by blanks, while a key is being changed
    return any(_equal(given, expected) for given in headers.get("webhook-signature", "").split(" "))


def _equal(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing of `expected`."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
