"""Figures to reach: what was measured of them, beside the goals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.page import slug, table
from gans.errors import brief
from gans.files import write_text
from gans.places import free


@dataclass(frozen=True)
class Goal:
    """A figure to reach.

    Attributes:
        name: what is measured.
        bound: the most that it may be, or the least.
        unit: of the figure and its bound.
        least: whether the bound is the least.
    """

    name: str
    bound: float
    unit: str = ""
    least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.least else value <= self.bound

    def amount(self, value: float) -> str:
        """A figure with its unit."""
        return f"{value:.4g} {self.unit}".strip()

    def __str__(self) -> str:
        return f"{'at least' if self.least else 'at most'} {self.amount(self.bound)}"


@dataclass(frozen=True)
class Found:
    """A figure as it was measured, in its goal's unit, and what to know of it."""

    value: float
    note: str = ""


@dataclass(frozen=True)
class Check:
    """Figures that one measurement gives.

    Attributes:
        name: for people who wait.
        goals: what is to be reached.
        measure: takes the measurement; what it found, in the order of the goals.
    """

    name: str
    goals: Sequence[Goal]
    measure: Callable[[], Sequence[Found]]

    def take(self) -> list[Line]:
        """Measure. Whatever goes wrong costs these figures, and no other check."""
        try:
            found = self.measure()
            return [Line(goal, value) for goal, value in zip(self.goals, found, strict=True)]
        except Exception as error:
            return [Line(goal, None, brief(error)) for goal in self.goals]


@dataclass(frozen=True)
class Line:
    """A goal and what was found.

    Attributes:
        goal: to be reached.
        found: None: it was not measured.
        reason: why not.
    """

    goal: Goal
    found: Found | None
    reason: str = ""

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "not measured"
        return "met" if self.goal.met(self.found.value) else "**not met**"

    def cells(self) -> list[str]:
        """Of its row in the table; a reason may hold what markdown takes for the end of a cell."""
        measured, note = ("", self.reason) if self.found is None else self._measured(self.found)
        return [self.goal.name, measured, str(self.goal), self.verdict, note.replace("|", "\\|")]

    def _measured(self, found: Found) -> tuple[str, str]:
        return self.goal.amount(found.value), found.note


@dataclass(frozen=True)
class Sheet:
    """All goals of a device.

    Attributes:
        machine: what measured, for the head of the page: device, commit, torch and so on.
        lines: in the order in which they were measured.
    """

    machine: Mapping[str, str]
    lines: Sequence[Line]

    @property
    def exit_code(self) -> int:
        """0 only if all was measured. A goal that is not met is a result, no error."""
        return int(any(line.found is None for line in self.lines))

    def summary(self) -> str:
        met = sum(line.verdict == "met" for line in self.lines)
        missing = sum(line.found is None for line in self.lines)
        return f"{met} of {len(self.lines)} goals met" + (f", {missing} not measured" if missing else "")

    def markdown(self) -> str:
        head = table(["", ""], [[key, value] for key, value in self.machine.items()])
        figures = table(["Figure", "measured", "goal", "", "note"], [line.cells() for line in self.lines])
        return "\n\n".join(["# Goals on a GPU", head, f"{self.summary()}.", READING, figures]) + "\n"

    def write(self, folder: Path) -> Path:
        """Write the page, called after the device; earlier measurements stay."""
        (path,) = free(folder, f"{slug(self.machine['device'])}-goals", ".md")
        write_text(path, self.markdown())
        return path


READING = """Defaults throughout: recorded steps, in the precision that the device trains in unless asked for
another. Steps are timed as `make speed` does: medians of turns, in which our trainer, its recorded step replayed
bare and the tutorial's trainer take part. The matrix starts from nothing but the data; its report is in its
time."""


def take_all(checks: Iterable[Check], tell: Callable[[str], None]) -> list[Line]:
    """Take checks one after the other, telling what is measured now and what was found."""
    lines = []
    for check in checks:
        tell(f"{check.name} ...")
        for line in check.take():
            name, measured, goal, verdict, note = line.cells()
            words = (measured, f"({goal})", verdict.strip("*"), note)
            tell(f"  {name}: {' '.join(word for word in words if word)}")
            lines.append(line)
    return lines
