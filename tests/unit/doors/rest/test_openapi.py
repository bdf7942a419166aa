"""The OpenAPI document is exact: requests made from it meet no bug and no answer that it does not have."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import schemathesis
import schemathesis.openapi
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as openapi_checks

from stretto.settings import Api, Settings
from tests.support.api import Server, open_api
from tests.unit.doors.rest.conftest import Place


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
