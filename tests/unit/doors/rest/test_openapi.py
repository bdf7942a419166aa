"""The OpenAPI document is exact: requests made from it meet no bug and no answer that it does not have."""

from __future__ import annotations

from tests.support.api import Server


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
