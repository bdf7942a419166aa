"""One line of the table of results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured, the floor it is held against, and the goal: `times` the floor, or the floor `plus` so much.

    `floor`, `measured` and `plus` are in `unit`. With neither `times` nor `plus` there is no goal, only a figure.
    """

    what: str
    floor_is: str
    floor: float
    measured: float
    times: float | None = None
    plus: float | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """The measured value in floors."""
        return self.measured / self.floor

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached."""
        if self.plus is not None:
            return self.measured <= self.floor + self.plus
        return self.times is None or self.ratio <= self.times

    def cells(self) -> list[str]:
        """Return the texts of the line, as in HEAD."""
        goal = "" if self.times is None else f"{self.times:g} times"
        if self.plus is not None:
            goal = f"floor + {self.plus:g} {self.unit}"
        floor, measured = (f"{value:.3g} {self.unit}" for value in (self.floor, self.measured))
        met = "" if not goal else "yes" if self.is_met else "NO"
        return [self.what, self.floor_is, floor, measured, f"{self.ratio:.2f}", goal, met]


HEAD = ["what", "the floor", "floor", "measured", "ratio", "goal", "met"]
"""The titles of `Row.cells`."""
