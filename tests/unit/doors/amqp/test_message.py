"""What is read from a message, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stretto.doors.amqp import message
from stretto.doors.amqp.message import RequestMessage, RunMessage, UnusableError, decode, encode_run
from stretto.waist import RunRequest


def body(**fields: Any) -> bytes:
    return json.dumps({"schema": "stretto.submission/1", **fields}).encode()


def refused(data: bytes) -> UnusableError:
    with pytest.raises(UnusableError) as caught:
        decode(data)
    return caught.value


def test_run_message_is_read_as_it_was_written() -> None:
    """The id comes back."""
    assert decode(encode_run("0a1b2c3d4e5f")) == RunMessage("0a1b2c3d4e5f")


def test_request_message_becomes_a_request() -> None:
    """All that a request may have is taken; key and sender are marked as the queue's."""
    request = {
        "repository": "https://example.test/r.git",
        "branch": "main",
        "pipelines": ["a", "b"],
        "variables": {"X": "1"},
        "overrides": ["jobs.a.script=true"],
        "priority": 3,
    }
    assert decode(body(request=request, idempotency_key="k"), user="app") == RequestMessage(
        RunRequest(
            directory=RunRequest().directory,
            repository="https://example.test/r.git",
            branch="main",
            pipelines=("a", "b"),
            variables={"X": "1"},
            overrides=("jobs.a.script=true",),
            priority=3,
            idempotency_key="queue:k",
            by="queue:app",
        )
    )


def test_request_message_may_have_its_key_as_message_id() -> None:
    """The message id of AMQP serves as idempotency key."""
    parcel = decode(body(request={"repository": "r"}), message_id="id-1")
    assert isinstance(parcel, RequestMessage)
    assert (parcel.request.idempotency_key, parcel.request.by) == ("queue:id-1", "queue")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", message.MALFORMED),
        (b"\xff\xfe", message.MALFORMED),
        (b"[1]", message.MALFORMED),
        (b'"text"', message.MALFORMED),
        (b"[" * 100_000, message.MALFORMED),
        (b" " * (message.MAX_BYTES + 1), message.MALFORMED),
        (b"{}", message.UNKNOWN_SCHEMA),
        (b'{"schema": "stretto.submission/2", "run": "a"}', message.UNKNOWN_SCHEMA),
        (b'{"schema": ["stretto.submission/1"], "run": "a"}', message.UNKNOWN_SCHEMA),
        (body(run=7), message.MALFORMED),
        (body(run=""), message.MALFORMED),
        (body(run="../../etc"), message.MALFORMED),
        (body(run="a" * 65), message.MALFORMED),
        (body(run="a", request={}), message.MALFORMED),
        (body(idempotency_key="k"), message.MALFORMED),
        (body(idempotency_key="k", request=[]), message.MALFORMED),
        (body(idempotency_key="k", request={"repository": "r"}, extra=1), message.MALFORMED),
        (body(request={"repository": "r"}), message.BAD_REQUEST),
        (body(idempotency_key="", request={"repository": "r"}), message.BAD_REQUEST),
        (body(idempotency_key="k" * 201, request={"repository": "r"}), message.BAD_REQUEST),
        (body(idempotency_key=1, request={"repository": "r"}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": 1}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r\0"}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r", "by": "admin"}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r", "pipelines": "a"}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r", "pipelines": [1]}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r", "overrides": ["x"] * 1001}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r", "variables": ["X"]}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r", "variables": {"X": 1}}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r", "priority": True}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r", "priority": 1e3}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"repository": "r", "priority": 10**9}), message.BAD_REQUEST),
        (body(idempotency_key="k", request={"definition": 1}), message.BAD_REQUEST),
    ],
)
def test_message_that_cannot_be_used_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    """Whatever is sent, the answer is one of our reasons and a short sentence."""
    error = refused(data)
    assert error.reason == reason
    assert 0 < len(error.message) < 400
