"""HTTP to one server: what is tried again, what is not, and what a person is told."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from stretto.client import connection
from stretto.client.connection import Connection, Patience, _mapped
from stretto.client.target import Target
from stretto.core.errors import (
    AccessError,
    DefinitionError,
    InputError,
    NotFoundError,
    ServerError,
    SourceError,
    StrettoError,
)
from tests.unit.client.scripted import HANG, TOKEN, Scripted, answer, events, problem, scripted

SHORT = Patience(call_s=0.5, follow_s=0.5)
FINE = answer(200, {"fine": True})
PAGE = b"<html><script>alert(1)</script>" + b"x" * 5_000_000


async def get(script: Scripted, *, patience: Patience = SHORT) -> Any:
    """Get something from the server."""
    async with Connection(script.target, patience=patience) as it:
        return await it.get("/thing")


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 200 OK\r\ncontent-le",
        answer(200, {"fine": True}, cut=3),
        answer(502, PAGE, media_type="text/html"),
        problem(503, "the store is away", word="store"),
        answer(504),
        answer(429, retry_after="0"),
    ],
    ids=["cut in the head", "cut in the body", "502", "503", "504", "429"],
)
async def test_call_that_may_be_repeated_is_tried_again(first: bytes) -> None:
    """A connection that is cut, or a server that is away for a moment, is nobody's concern."""
    async with scripted(first, FINE) as script:
        assert await get(script) == {"fine": True}
    assert len(script.asked) == 2


async def test_call_that_may_not_be_repeated_is_made_once() -> None:
    """A cancel whose answer was lost may have been heard: it is told, not done again."""
    async with scripted(b"HTTP/1.1 202", FINE) as script, Connection(script.target, patience=SHORT) as it:
        with pytest.raises(ServerError, match="broke"):
            await it.call("POST", "/runs/1/cancel", body={})
    assert len(script.asked) == 1


async def test_server_that_wants_to_be_left_alone_is() -> None:
    """A Retry-After beyond what anybody waits for ends the call at once, with the server's words."""
    slow_down = answer(429, {"detail": "too often"}, media_type="application/problem+json", retry_after="3600")
    async with scripted(slow_down) as script:
        with pytest.raises(ServerError, match="too often"):
            await get(script)
    assert len(script.asked) == 1


async def test_patience_ends() -> None:
    """A server that stays away is told as what it is, with exit code 1."""
    async with scripted(answer(503, PAGE, media_type="text/html")) as script:
        with pytest.raises(ServerError, match=r"answered 503 Service Unavailable$") as caught:
            await get(script, patience=Patience(call_s=0.05))
    assert caught.value.exit_code == 1
    assert len(script.asked) > 1


async def test_redirect_is_refused() -> None:
    """The token goes to no other host: that one is never called, and is named."""
    async with scripted(FINE) as other, scripted(answer(307, location=f"{other.url}/api/v1/thing?token=x")) as script:
        with pytest.raises(ServerError, match="sends callers to") as caught:
            await get(script)
        assert other.url in caught.value.message
        assert "token=x" not in caught.value.message
    assert other.asked == []


@pytest.mark.parametrize("status", [200, 404, 400, 500])
async def test_page_is_not_shown(status: int) -> None:
    """What is no answer of ours is neither believed nor printed, however much of it there is."""
    async with scripted(answer(status, PAGE, media_type="text/html")) as script:
        with pytest.raises(ServerError) as caught:
            await get(script)
    assert len(caught.value.message) < 300
    assert "script" not in caught.value.message
    assert script.url in caught.value.message


async def test_json_that_is_none_is_told() -> None:
    """An answer that says it is JSON and is not."""
    async with scripted(answer(200, b"{")) as script:
        with pytest.raises(ServerError, match="can't be read"):
            await get(script)


async def test_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """More JSON than any answer has is refused before memory is full of it."""
    monkeypatch.setattr(connection, "MAX_JSON_BYTES", 1 << 20)
    async with scripted(answer(200, b'"' + b"x" * (4 << 20) + b'"')) as script:
        with pytest.raises(ServerError, match="more than 1 MiB"):
            await get(script)


async def test_slow_server_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence has an end."""
    monkeypatch.setattr(connection, "READ_S", 0.05)
    async with scripted(HANG) as script, Connection(script.target, patience=Patience(call_s=0.0)) as it:
        with pytest.raises(ServerError, match="does not answer in time"):
            await it.call("GET", "/thing", again=True, read_s=0.05)


async def test_server_that_is_not_there_is_told() -> None:
    """Nothing listens: the message has the URL and why, the hint what to do."""
    async with scripted(FINE) as script:
        pass
    with pytest.raises(ServerError, match="can't be reached: Connection refused") as caught:
        await get(script, patience=Patience(call_s=0.0))
    assert caught.value.hint is not None
    assert "--server none" in caught.value.hint


@pytest.fixture
def own_tls(tmp_path: Path) -> ssl.SSLContext:
    """What a server speaks TLS with whose certificate is signed by itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=here"]
    subprocess.run(["openssl", "req", "-x509", *words], check=True, capture_output=True, timeout=60)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return tls


async def test_certificate_that_nobody_vouches_for_is_refused(own_tls: ssl.SSLContext) -> None:
    """Before anything is sent; the hint says how to name one's own authority."""
    async with scripted(FINE, tls=own_tls) as script:
        with pytest.raises(ServerError, match=r"certificate of https://.* is not valid: self") as caught:
            await get(script)
    assert "SSL_CERT_FILE" in str(caught.value.hint)
    assert script.asked == []


async def test_token_is_in_one_header_only() -> None:
    """It is in no URL, no text of the target and no error."""
    async with scripted(problem(401, "the token is not valid", word="access", hint="send the header")) as script:
        with pytest.raises(AccessError, match="not valid") as caught:
            await get(script)
    asked = script.asked[0]
    assert asked.headers.pop("authorization") == f"Bearer {TOKEN}"
    assert TOKEN not in f"{asked} {script.target} {caught.value} {caught.value.hint}"
    assert "stretto login" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("status", "word", "kind"),
    [
        (422, "source", SourceError),
        (422, "input", InputError),
        (422, "word of a newer server", InputError),
        (404, "not-found", NotFoundError),
        (403, "access", AccessError),
        (409, "conflict", InputError),
        (413, "too-large", InputError),
        (500, "bug", ServerError),
    ],
)
async def test_problem_is_the_error_it_was_at_the_server(status: int, word: str, kind: type[StrettoError]) -> None:
    """The same class, message and hint as where the work is done here."""
    async with scripted(problem(status, "what is wrong", word=word, hint="do this")) as script:
        with pytest.raises(kind) as caught:
            await get(script)
    assert type(caught.value) is kind
    assert caught.value.message.endswith("what is wrong")
    assert caught.value.hint == "do this"


async def test_faults_arrive_as_faults() -> None:
    """All of them, with file, place and hint."""
    faults = [
        {"file": "p.yml", "line": 3, "column": 2, "rule": "b", "message": "later", "hint": None},
        {"file": "p.yml", "line": 1, "column": 1, "rule": "a", "message": "first", "hint": "do"},
    ]
    async with scripted(problem(422, "faults", word="definition", faults=faults)) as script:
        with pytest.raises(DefinitionError) as caught:
            await get(script)
    assert str(caught.value) == "p.yml:1:1: a: first (do)\np.yml:3:2: b: later"


@pytest.mark.parametrize("faults", ["x", [1], [{}], [{"line": "x"}], []])
async def test_faults_that_are_none_are_told_as_an_error(faults: Any) -> None:
    """A server that says something else under that name makes no traceback here."""
    async with scripted(problem(422, "faults", word="definition", faults=faults)) as script:
        with pytest.raises((InputError, ServerError)):
            await get(script)


DATA = bytes(range(256)) * 40


@pytest.mark.parametrize("heeds_range", [True, False])
async def test_bytes_go_on_where_they_broke_off(heeds_range: bool) -> None:
    """Nothing is lost and nothing comes twice, whether or not the server knows ranges."""
    rest = (
        answer(206, DATA[5000:], media_type="text/plain") if heeds_range else answer(200, DATA, media_type="text/plain")
    )
    first = answer(200, DATA, media_type="text/plain", cut=5000)
    async with scripted(first, rest) as script, Connection(script.target, patience=SHORT) as it:
        assert b"".join([data async for data in it.read("/log")]) == DATA
    assert [asked.headers.get("range") for asked in script.asked] == [None, "bytes=5000-"]


async def test_bytes_behind_the_end_are_none() -> None:
    """A range that begins where the bytes end is no error."""
    async with scripted(problem(416, "that is all")) as script, Connection(script.target, patience=SHORT) as it:
        assert [data async for data in it.read("/log", offset=10)] == []


async def test_events_go_on_where_they_broke_off() -> None:
    """After each cut the server is told the last event that came whole."""
    first, second = events(("1", "a"), ("2", "b"), end=False), events(("3", "c"))
    async with scripted(first, answer(503), second) as script, Connection(script.target, patience=SHORT) as it:
        assert [(each.id, each.data) async for each in it.events("/e", after="0")] == [
            ("1", '"a"'),
            ("2", '"b"'),
            ("3", '"c"'),
        ]
    assert [asked.headers.get("last-event-id") for asked in script.asked] == ["0", "2", "2"]


async def test_events_that_end_with_an_error_raise_it() -> None:
    """What goes wrong after the answer has begun is told in the stream."""
    body = b'event: error\ndata: {"status": 404, "detail": "gone"}\n\n'
    stream = answer(200, body, media_type="text/event-stream")
    async with scripted(stream) as script, Connection(script.target, patience=SHORT) as it:
        with pytest.raises(NotFoundError, match="gone"):
            await anext(it.events("/e"))


async def test_events_of_a_server_that_stays_away_end() -> None:
    """Following is patient, not endless; every connection that brings nothing counts."""
    begun, patience = events(("1", "a"), end=False), Patience(follow_s=0.05)
    async with scripted(begun, answer(503)) as script, Connection(script.target, patience=patience) as it:
        with pytest.raises(ServerError, match="answered 503"):
            assert [each.id async for each in it.events("/e")] == []


async def test_silence_of_a_followed_server_costs_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that was quiet for an hour, as jobs may be, and is cut then, is made again all the same."""
    now_s = 0.0
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: now_s))
    first, second = events(("1", "a"), end=False), events(("2", "b"))
    async with scripted(first, second) as script, Connection(script.target) as it:
        following = it.events("/e")
        assert (await anext(following)).id == "1"
        now_s = 3600.0
        assert (await anext(following)).id == "2"
        await following.aclose()


def _errors_of_the_library() -> list[type[Exception]]:
    found = [it for name in dir(httpx2) if isinstance(it := getattr(httpx2, name), type) and issubclass(it, Exception)]
    never = {httpx2.CookieConflict, httpx2.HTTPStatusError}  # we read no cookies and do not call raise_for_status
    return [it for it in found if it not in never]


@pytest.mark.parametrize("kind", _errors_of_the_library(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_library_becomes_ours(kind: type[Exception]) -> None:
    """Also those that a later version of it brings."""
    error = Exception.__new__(kind, "why")
    with pytest.raises(ServerError) as caught, _mapped(Target("http://here")):
        raise error
    assert "http://here" in caught.value.message
