"""What is tried: a function of seed and number alone, so that a count that grows goes on where it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["bench", "damage", "server", "sweep", "ui"]

# of every twenty trials; the costly kinds come late in the row
ROTA: tuple[Kind, ...] = (
    *("bench", "damage", "bench", "server", "bench", "bench", "sweep", "damage", "bench", "ui"),
    *("bench", "damage", "bench", "bench", "server", "bench", "damage", "bench", "sweep", "bench"),
)
# moments, and the seconds after they are reached within which a kill comes
MOMENTS: Mapping[str, float] = {
    "start-up": 12.0,
    "training": 1.5,
    "checkpoint": 0.6,
    "evaluation": 1.5,
    "report": 5.0,
}
VICTIMS = ("runner", "cell", "fork server", "group")
LETHAL = ("KILL", "KILL", "KILL", "TERM")
POLITE = ("KILL", "TERM", "INT")
SERVER = ("killed", "stopped", "never returns")
DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) * 2 // 3],
    "a byte inverted": lambda content: (
        content[: len(content) // 2]
        + bytes(byte ^ 0xFF for byte in content[len(content) // 2 :][:1])
        + content[len(content) // 2 + 1 :]
    ),
    "another kind": lambda content: "für später\n".encode("latin-1"),
}


@dataclass(frozen=True)
class Trial:
    """One disturbance.

    Attributes:
        number: from 0.
        kind: what is disturbed.
        moment: when: one of MOMENTS; for damage, between two runs.
        victim: which process, what becomes of the server, or which sort of damage.
        signal: what a process gets; empty for a server and for damage.
        delay: seconds from the moment on.
        draw: in [0, 1): which of the cells or files.
    """

    number: int
    kind: Kind
    moment: str
    victim: str
    signal: str
    delay: float
    draw: float

    @property
    def words(self) -> str:
        """For people."""
        return " ".join(filter(None, (self.kind, self.moment, self.victim, self.signal)))


def trial(seed: int, number: int) -> Trial:
    """The trial of this number."""
    rng = random.Random(f"{seed} {number}")
    kind = ROTA[number % len(ROTA)]
    moment = rng.choice(list(MOMENTS))
    # once there is a report, no cell is left
    victim = rng.choice(("runner", "group") if moment == "report" else VICTIMS)
    signal = rng.choice(LETHAL)
    match kind:
        case "damage":
            moment, victim, signal = "between runs", rng.choice(list(DAMAGES)), ""
        case "server":
            moment, victim, signal = rng.choice(("training", "checkpoint", "evaluation")), rng.choice(SERVER), ""
        case "ui":
            moment, victim, signal = "start-up", "runner", rng.choice(POLITE)
        case _ if victim == "runner":
            signal = rng.choice(POLITE)
    delay = rng.uniform(0, MOMENTS.get(moment, 0.0))
    return Trial(number, kind, moment, victim, signal, round(delay, 3), round(rng.random(), 6))
