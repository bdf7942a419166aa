"""The OpenAPI document: FastAPI's, with our shapes as its components and problems for all errors."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from stretto.doors.rest import model, trigger_model
from stretto.reports import schema

_REF: Final = "#/components/schemas/"


def ref(shape: type[BaseModel] | str) -> dict[str, str]:
    """Return a reference to a component."""
    return {"$ref": _REF + (shape if isinstance(shape, str) else shape.__name__)}


def gives(shape: type[BaseModel] | str, description: str, *, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return how a route's JSON answer is described."""
    return {status: {"description": description, "content": {"application/json": {"schema": ref(shape)}}}}


def takes(shape: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return how a route's JSON body is described."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": ref(shape)}}}}


def install(app: FastAPI) -> None:
    """Let the application offer the document; made when it is first asked for."""

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _without_null(made)
            made.setdefault("components", {}).setdefault("schemas", {}).update(_components())
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI's own documentation does it


def _without_null(document: dict[str, Any]) -> None:
    """Take the null out of what parameters may be: one that is left out is not sent as anything."""
    for operations in document["paths"].values():
        for parameter in (one for operation in operations.values() for one in operation.get("parameters", ())):
            kinds = [kind for kind in parameter["schema"].pop("anyOf", ()) if kind != {"type": "null"}]
            if kinds:
                parameter["schema"] |= kinds[0]


def _components() -> dict[str, Any]:
    """Return all shapes by name; those of a report are of its own schema."""
    found: dict[str, Any] = {}
    for shapes, mode in ((model.BODIES + trigger_model.BODIES, "validation"), (model.ANSWERS, "serialization")):
        _, made = models_json_schema([(it, mode) for it in shapes], ref_template=_REF + "{model}")  # type: ignore[misc]
        found |= made["$defs"]
    report = schema.load()
    for name, part in report.pop("$defs").items():
        found[_report_part(name)] = part
    found["Report"] = {key: value for key, value in report.items() if key not in ("$schema", "$id")}
    text = json.dumps(found)
    for name in report_parts():
        text = text.replace(f'"#/$defs/{name}"', f'"{_REF}{_report_part(name)}"')
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def report_parts() -> list[str]:
    """Return the names of the parts that a report's schema is made of."""
    return list(schema.load()["$defs"])


def _report_part(name: str) -> str:
    return "Report" + "".join(word.capitalize() for word in name.split("_"))
