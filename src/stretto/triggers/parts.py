"""The parts of this package as a door holds them."""

from __future__ import annotations

from dataclasses import dataclass

from stretto.core.ports import Clock, Tables
from stretto.triggers.forge_table import ForgeTable
from stretto.triggers.hook_table import HookTable
from stretto.triggers.order import Accept
from stretto.triggers.receiver import Receiver
from stretto.triggers.schedule import ScheduleTable


@dataclass(frozen=True, slots=True)
class Triggers:
    """Hooks, schedules and forges on record, and what takes deliveries."""

    hooks: HookTable
    schedules: ScheduleTable
    forges: ForgeTable
    receiver: Receiver
    clock: Clock


def make_triggers(tables: Tables, accept: Accept, clock: Clock) -> Triggers:
    """Return the parts over the tables of a store."""
    return Triggers(
        HookTable(tables), ScheduleTable(tables), ForgeTable(tables), Receiver(tables, accept, clock), clock
    )
