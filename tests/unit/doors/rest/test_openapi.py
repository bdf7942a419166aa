"""The OpenAPI document is exact: requests made from it meet no bug and no answer that it does not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import schemathesis.openapi
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examined
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from stretto.settings import Api, Settings
from tests.support.api import Listening, Server, listening

EXAMPLES = {GenerationMode.POSITIVE: 12, GenerationMode.NEGATIVE: 4}
"""Requests for each operation: a wrong one costs several times as much to think of as a right one."""
REAL = {"run": "1", "job": "lint", "stage": "test", "number": 1}
"""What is there, so that requests come further than to say that it is not."""


@pytest.fixture
def listener(settings: Settings) -> Iterator[Listening]:
    """A server with two runs that many wrong tokens may be tried on."""
    with listening(replace(settings, api=Api(max_body_mb=1, rate_per_minute=0)), failures_per_minute=0) as begun:
        yield begun


@schemathesis.serializer("application/x-git-packed-objects")
def _as_it_is(context: object, value: object) -> object:
    """Let a pack be sent as the bytes that it is."""
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.mark.parametrize(
    ("mode", "real"),
    [(GenerationMode.POSITIVE, False), (GenerationMode.POSITIVE, True), (GenerationMode.NEGATIVE, False)],
    ids=["right", "right and real", "wrong"],
)
@pytest.mark.slow
def test_no_request_meets_a_bug_or_an_undocumented_answer(
    listener: Listening, mode: GenerationMode, real: bool
) -> None:
    """What the document allows is taken, what it does not is refused, and each answer is as it says."""
    token = listener.ask(listener.server.token("admin"))
    schema = schemathesis.openapi.from_dict(listener.server.app.openapi())
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.path_parameters or operation.query or operation.body):
            continue  # there is nothing that could be wrong

        @given(case=operation.as_strategy(generation_mode=mode))
        @examined(
            max_examples=EXAMPLES[mode],
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def attempt(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            if real:
                case.path_parameters |= {name: REAL[name] for name in case.path_parameters if name in REAL}
            case.call_and_validate(
                base_url=listener.url,
                headers={"Authorization": f"Bearer {token}"},
                timeout=20,  # seconds
                excluded_checks=[positive_data_acceptance] if case.method == "POST" else [],
            )  # a body may be right and name a repository that can't be had

        attempt()
    assert tried > 50


async def test_every_operation_tells_its_errors(server: Server) -> None:
    """Each operation has a description, and each that takes a token has the answers for a wrong one."""
    document = server.app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert "500" in operation["responses"], (method, path)
            if "security" in operation:
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), (method, path)
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]
