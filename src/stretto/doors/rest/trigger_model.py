"""What the routes of hooks, schedules and forges take and give. A secret or token goes in, and comes out nowhere."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from stretto.doors.rest.segment import PREFIX
from stretto.triggers.delivery import Trigger
from stretto.triggers.forge import Forge
from stretto.triggers.hook import KINDS, LEAST_SECRET, MOST_SECRET, Hook
from stretto.triggers.hook_table import Receipt
from stretto.triggers.order import MOST_CHARACTERS, MOST_ITEMS, MOST_PRIORITY, Order
from stretto.triggers.receiver import Received
from stretto.triggers.schedule import Schedule

Text = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
Texts = Annotated[list[Text], Field(max_length=MOST_ITEMS)]
Variables = Annotated[dict[str, str], Field(max_length=MOST_ITEMS)]
Priority = Annotated[int, Field(ge=-MOST_PRIORITY, le=MOST_PRIORITY)]
Kind = Annotated[str, Field(pattern=f"^({'|'.join(KINDS)})$")]


class Input(BaseModel):
    """A body; a key that is unknown is refused."""

    model_config = ConfigDict(extra="forbid")


class OrderInput(Input):
    """What is to be run."""

    repository: Text
    pipelines: Texts = []
    file: Text | None = None
    variables: Variables = {}
    driver: Text | None = None
    priority: Priority = 0

    def order(self, repository: str) -> Order:
        """Return it as the parts beneath know it, for the repository as it was permitted."""
        return Order(repository, tuple(self.pipelines), self.file, self.variables, self.driver, self.priority)


class HookInput(OrderInput):
    """A hook to make. Without a secret, one is made and told once."""

    kind: Kind
    secret: Annotated[str, Field(min_length=LEAST_SECRET, max_length=MOST_SECRET)] | None = None
    events: Annotated[list[Trigger], Field(min_length=1, max_length=len(Trigger))] = [Trigger.PUSH, Trigger.TAG]
    branches: Texts = []
    paths: Texts = []


class Enabled(Input):
    """Whether a hook starts runs."""

    enabled: bool


class ScheduleInput(OrderInput):
    """A schedule to make."""

    cron: Text
    zone: Text = "UTC"
    branch: Text | None = None
    enabled: bool = True


class ScheduleChange(Input):
    """What to change of a schedule; what is not named stays."""

    cron: Text | None = None
    zone: Text | None = None
    branch: Text | None = None
    pipelines: Texts | None = None
    variables: Variables | None = None
    priority: Priority | None = None
    enabled: bool | None = None


class ForgeInput(Input):
    """Where the statuses of a host's commits go; one of the three tokens is needed."""

    host: Text
    kind: Kind
    api_url: Text | None = None
    token: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)] | None = None
    token_env: Text | None = None
    token_file: Text | None = None
    every_run: bool = False


class OrderOutput(BaseModel):
    """What is run."""

    repository: str
    pipelines: list[str]
    file: str | None
    variables: dict[str, str]
    driver: str | None
    priority: int


def _order(order: Order) -> dict[str, object]:
    return {
        "repository": order.repository,
        "pipelines": list(order.pipelines),
        "file": order.file,
        "variables": dict(order.variables),
        "driver": order.driver,
        "priority": order.priority,
    }


class HookOutput(OrderOutput):
    """A hook; `path` is where on this server the forge is to send deliveries."""

    id: str
    kind: str
    events: list[Trigger]
    branches: list[str]
    paths: list[str]
    enabled: bool
    path: str
    by: str
    created_at: datetime | None

    @classmethod
    def of(cls, hook: Hook, **more: object) -> Self:
        """Return what is told of the hook."""
        return cls.model_validate(
            _order(hook.order)
            | {
                "id": hook.id,
                "kind": hook.kind,
                "events": list(hook.events),
                "branches": list(hook.branches),
                "paths": list(hook.paths),
                "enabled": hook.enabled,
                "path": f"{PREFIX}/webhooks/{hook.id}",
                "by": hook.created_by,
                "created_at": hook.created_at,
            }
            | more
        )


class HookMade(HookOutput):
    """A hook that was just made, with its secret, which is not told again."""

    secret: str


class HookList(BaseModel):
    """Hooks, oldest first."""

    hooks: list[HookOutput]


class DeliveryOutput(BaseModel):
    """A delivery: the ids of the runs it started, or why it was ignored."""

    id: str
    event: str
    branch: str | None
    commit: str | None
    sender: str
    ignored: str | None
    runs: list[str]
    received_at: datetime

    @classmethod
    def of(cls, receipt: Receipt) -> Self:
        """Return what is told of the delivery."""
        return cls(
            id=receipt.id,
            event=receipt.event,
            branch=receipt.branch,
            commit=receipt.commit,
            sender=receipt.sender,
            ignored=receipt.ignored,
            runs=list(receipt.runs),
            received_at=receipt.received_at,
        )


class DeliveryList(BaseModel):
    """Deliveries, newest first."""

    deliveries: list[DeliveryOutput]


class Answer(BaseModel):
    """What a forge is told of its delivery; `again` where it had come before."""

    delivery: str
    ignored: str | None
    runs: list[str]
    again: bool

    @classmethod
    def of(cls, received: Received) -> Self:
        """Return what became of it."""
        receipt = received.receipt
        return cls(delivery=receipt.id, ignored=receipt.ignored, runs=list(receipt.runs), again=received.again)


class ScheduleOutput(OrderOutput):
    """A schedule; `last_runs` are the ids of the runs that the occurrence at `last_at` started."""

    id: str
    cron: str
    zone: str
    branch: str | None
    enabled: bool
    by: str
    created_at: datetime | None
    next_at: datetime | None
    last_at: datetime | None
    last_runs: list[str]

    @classmethod
    def of(cls, schedule: Schedule) -> Self:
        """Return what is told of the schedule; one that is disabled is not due."""
        return cls.model_validate(
            _order(schedule.order)
            | {
                "id": schedule.id,
                "cron": schedule.cron,
                "zone": schedule.zone,
                "branch": schedule.branch,
                "enabled": schedule.enabled,
                "by": schedule.created_by,
                "created_at": schedule.created_at,
                "next_at": schedule.next_at if schedule.enabled else None,
                "last_at": schedule.last_at,
                "last_runs": list(schedule.last_runs),
            }
        )


class ScheduleList(BaseModel):
    """Schedules, oldest first."""

    schedules: list[ScheduleOutput]


class ForgeOutput(BaseModel):
    """A forge; `token` says where its token is: `stored`, or the name of a variable or file."""

    host: str
    kind: str
    api_url: str
    token: str
    every_run: bool

    @classmethod
    def of(cls, forge: Forge) -> Self:
        """Return what is told of the forge."""
        where = f"variable {forge.token_env}" if forge.token_env else f"file {forge.token_file}"
        return cls(
            host=forge.host,
            kind=forge.kind,
            api_url=forge.api_url,
            token="stored" if forge.token is not None else where,
            every_run=forge.every_run,
        )


class ForgeList(BaseModel):
    """Forges by host."""

    forges: list[ForgeOutput]


BODIES = (HookInput, Enabled, ScheduleInput, ScheduleChange, ForgeInput)
"""What routes take, for the OpenAPI document."""
