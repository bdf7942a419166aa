"""Routes of what starts runs by itself (hooks, schedules, deliveries) and of the forges that are told how commits fared.

Making any of them takes an administrator: they go on when the token that made them is long revoked. A delivery has no token; its
signature is what lets it in, and without that it is answered the same whether its hook exists or not.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from stretto.access.repository import permitted
from stretto.core.errors import NotFoundError
from stretto.doors.rest.body import Body
from stretto.doors.rest.deps import Admin, Caller, Reader, answers, door_of, unbound
from stretto.doors.rest.openapi import takes
from stretto.doors.rest.problem import ProblemError
from stretto.doors.rest.segment import PREFIX
from stretto.doors.rest.submission import check_driver
from stretto.doors.rest.trigger_model import (
    Answer,
    DeliveryList,
    DeliveryOutput,
    Enabled,
    ForgeInput,
    ForgeList,
    ForgeOutput,
    HookInput,
    HookList,
    HookMade,
    HookOutput,
    OrderInput,
    ScheduleChange,
    ScheduleInput,
    ScheduleList,
    ScheduleOutput,
)
from stretto.triggers.cron import next_after
from stretto.triggers.forge import Forge, default_url
from stretto.triggers.hook import Hook
from stretto.triggers.order import Order, new_identity
from stretto.triggers.parts import Triggers, make_triggers
from stretto.triggers.schedule import Schedule

router = APIRouter(prefix=PREFIX, tags=["triggers"])


@dataclass(frozen=True, slots=True)
class _Clock:
    """The gate's time, as a clock; nothing sleeps here."""

    now: Callable[[], datetime]

    async def sleep(self, seconds: float) -> None:
        """See `core.ports.Clock`."""
        await asyncio.sleep(seconds)


def _triggers_of(request: Request) -> Triggers:
    """Return the parts beneath, over the tables of the door's store."""
    door = door_of(request)
    return make_triggers(door.tables, door.waist.accept, _Clock(door.gate.now))


Parts = Annotated[Triggers, Depends(_triggers_of)]


# ----------------------------------------------------------------------------------------------------------- deliveries


@router.post(
    "/webhooks/{hook}",
    status_code=202,
    responses={
        200: {"description": "It starts nothing, or did so before.", "model": Answer},
        **{code: answers(404, 413)[code] for code in (404, 413, 422, 500, 503)},
    },
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def receive(hook: str, request: Request, response: Response, triggers: Parts) -> Answer:
    """Take a delivery of GitHub, GitLab, Gitea or Forgejo, which is signed with the hook's secret."""
    received = await triggers.receiver.receive(hook, dict(request.headers), await request.body())
    if received.again or received.receipt.ignored is not None:
        response.status_code = 200
    return Answer.of(received)


# ---------------------------------------------------------------------------------------------------------------- hooks


@router.get("/hooks", responses=answers())
async def list_hooks(caller: Reader, triggers: Parts) -> HookList:
    """List the hooks of the repositories that the token is for."""
    hooks = await triggers.hooks.read_all()
    return HookList(hooks=[HookOutput.of(it) for it in hooks if caller.principal.reaches(it.order.repository)])


@router.post("/hooks", status_code=201, responses=answers(400, 413, 415), openapi_extra=takes(HookInput))
async def create_hook(caller: Admin, triggers: Parts, body: Body) -> HookMade:
    """Make a hook. Its secret is told in this answer only."""
    made = await body.read(HookInput)
    hook = Hook(
        id=new_identity(),
        kind=made.kind,
        secret=made.secret or secrets.token_hex(32),
        order=await _order(caller, made),
        events=tuple(dict.fromkeys(made.events)),
        branches=tuple(made.branches),
        paths=tuple(made.paths),
        created_by=caller.principal.name,
        created_at=triggers.clock.now(),
    )
    hook.check()
    await triggers.hooks.add(hook, now=triggers.clock.now())
    caller.note("hook.create", f"hook {hook.id} of {hook.order.repository}")
    return HookMade.of(hook, secret=hook.secret)


@router.patch("/hooks/{hook}", responses=answers(400, 404, 413, 415), openapi_extra=takes(Enabled))
async def enable_hook(hook: str, caller: Admin, triggers: Parts, body: Body) -> HookOutput:
    """Let a hook start runs, or keep it from doing so."""
    change = await body.read(Enabled)
    await _reached_hook(caller, triggers, hook)
    changed = await triggers.hooks.enable(hook, change.enabled)
    caller.note("hook.enable" if change.enabled else "hook.disable", f"hook {hook}")
    return HookOutput.of(changed)


@router.delete("/hooks/{hook}", status_code=204, responses=answers(404))
async def delete_hook(hook: str, caller: Admin, triggers: Parts) -> None:
    """Delete a hook and the list of its deliveries."""
    await _reached_hook(caller, triggers, hook)
    await triggers.hooks.delete(hook)
    caller.note("hook.delete", f"hook {hook}")


@router.get("/hooks/{hook}/deliveries", responses=answers(404))
async def list_deliveries(
    hook: str, caller: Reader, triggers: Parts, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> DeliveryList:
    """List the deliveries of the last seven days that were signed, newest first, with what became of them."""
    await _reached_hook(caller, triggers, hook)
    receipts = await triggers.hooks.receipts(hook, limit)
    return DeliveryList(deliveries=[DeliveryOutput.of(it) for it in receipts])


async def _reached_hook(caller: Caller, triggers: Triggers, hook_id: str) -> None:
    hook = await triggers.hooks.find(hook_id)
    if not caller.principal.reaches(hook.order.repository):
        raise _not_there("hook", hook_id)


# ------------------------------------------------------------------------------------------------------------ schedules


@router.get("/schedules", responses=answers())
async def list_schedules(caller: Reader, triggers: Parts) -> ScheduleList:
    """List the schedules of the repositories that the token is for."""
    schedules = await triggers.schedules.read_all()
    reached = [it for it in schedules if caller.principal.reaches(it.order.repository)]
    return ScheduleList(schedules=[ScheduleOutput.of(it) for it in reached])


@router.post("/schedules", status_code=201, responses=answers(400, 413, 415), openapi_extra=takes(ScheduleInput))
async def create_schedule(caller: Admin, triggers: Parts, body: Body) -> ScheduleOutput:
    """Make a schedule."""
    made = await body.read(ScheduleInput)
    now = triggers.clock.now()
    schedule = Schedule(
        id=new_identity(),
        cron=made.cron,
        zone=made.zone,
        order=await _order(caller, made),
        branch=made.branch,
        next_at=next_after(made.cron, made.zone, now),
        enabled=made.enabled,
        created_by=caller.principal.name,
        created_at=now,
    )
    schedule.check()
    await triggers.schedules.add(schedule, now=now)
    caller.note("schedule.create", f"schedule {schedule.id} of {schedule.order.repository}")
    return ScheduleOutput.of(schedule)


@router.patch("/schedules/{schedule}", responses=answers(400, 404, 413, 415), openapi_extra=takes(ScheduleChange))
async def change_schedule(schedule: str, caller: Admin, triggers: Parts, body: Body) -> ScheduleOutput:
    """Change a schedule. It is due next at the first occurrence from now on: what was missed is not made up for."""
    change = await body.read(ScheduleChange)
    old = await _reached_schedule(caller, triggers, schedule)
    told: dict[str, Any] = {
        name: value for name in change.model_fields_set if (value := getattr(change, name)) is not None
    }
    order = replace(
        old.order,
        pipelines=tuple(told.pop("pipelines", old.order.pipelines)),
        variables=told.pop("variables", old.order.variables),
        priority=told.pop("priority", old.order.priority),
    )
    new = replace(old, order=order, **told)
    new = replace(new, next_at=next_after(new.cron, new.zone, triggers.clock.now()))
    new.check()
    await triggers.schedules.change(new)
    caller.note("schedule.change", f"schedule {schedule}: {', '.join(sorted(change.model_fields_set))}")
    return ScheduleOutput.of(new)


@router.delete("/schedules/{schedule}", status_code=204, responses=answers(404))
async def delete_schedule(schedule: str, caller: Admin, triggers: Parts) -> None:
    """Delete a schedule."""
    await _reached_schedule(caller, triggers, schedule)
    await triggers.schedules.delete(schedule)
    caller.note("schedule.delete", f"schedule {schedule}")


async def _reached_schedule(caller: Caller, triggers: Triggers, schedule_id: str) -> Schedule:
    schedule = await triggers.schedules.find(schedule_id)
    if not caller.principal.reaches(schedule.order.repository):
        raise _not_there("schedule", schedule_id)
    return schedule


# --------------------------------------------------------------------------------------------------------------- forges


@router.get("/forges", responses=answers())
async def list_forges(caller: Admin, triggers: Parts) -> ForgeList:
    """List the forges that are told how commits fared."""
    unbound(caller)
    return ForgeList(forges=[ForgeOutput.of(it) for it in await triggers.forges.read_all()])


@router.post("/forges", status_code=201, responses=answers(400, 413, 415), openapi_extra=takes(ForgeInput))
async def set_forge(caller: Admin, triggers: Parts, body: Body) -> ForgeOutput:
    """Let statuses of commits in the repositories of a host be sent to its API; what was set for it before is replaced."""
    unbound(caller)
    made = await body.read(ForgeInput)
    now = triggers.clock.now()
    forge = Forge(
        host=made.host.lower(),
        kind=made.kind,
        api_url=made.api_url or default_url(made.kind, made.host.lower()),
        token=made.token,
        token_env=made.token_env,
        token_file=made.token_file,
        every_run=made.every_run,
        created_at=now,
    )
    forge.check()
    await triggers.forges.put(forge, now=now)
    caller.note("forge.set", f"forge {forge.host} at {forge.api_url}")
    return ForgeOutput.of(forge)


@router.delete("/forges/{host}", status_code=204, responses=answers(404))
async def delete_forge(host: str, caller: Admin, triggers: Parts) -> None:
    """Tell a forge nothing any more, and forget its token."""
    unbound(caller)
    await triggers.forges.delete(host.lower())
    caller.note("forge.delete", f"forge {host.lower()}")


# --------------------------------------------------------------------------------------------------------------- pieces


async def _order(caller: Caller, made: OrderInput) -> Order:
    """Return what is to be run, if the caller may ask for it; ProblemError, SourceError."""
    settings = caller.door.settings
    check_driver(made.driver, settings)
    root = settings.api.local_root
    address = await asyncio.to_thread(permitted, made.repository, local_root=Path(root) if root else None)
    if not caller.principal.reaches(address):
        raise ProblemError(403, "your token is not for this repository")
    return made.order(address)


def _not_there(what: str, identity: str) -> NotFoundError:
    return NotFoundError(f"there is no {what} {identity!r}")
