"""What is tried: a function of seed and number alone, so that a larger count adds trials to those before."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# kinds of every twenty trials; the costly ones come late in the row
KINDS = (
    *("bench", "damage", "bench", "server", "bench", "bench", "sweep", "damage", "bench", "bench"),
    *("bench", "damage", "bench", "bench", "server", "bench", "damage", "bench", "sweep", "bench"),
)
# moments, and the seconds after them within which a signal is sent
MOMENTS = {"start-up": 12.0, "training": 1.5, "checkpoint": 0.6, "evaluation": 1.5, "report": 5.0}
VICTIMS = ("runner", "cell", "fork server", "group")
SERVER = ("killed", "stopped", "never returns")


def invert_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) * 2 // 3],
    "a byte inverted": invert_a_byte,
    "another kind": lambda content: "für später\n".encode("latin-1"),
}


@dataclass(frozen=True)
class Trial:
    """One disturbance."""

    number: int  # from 0
    kind: str  # what is disturbed: bench, sweep, damage or server
    moment: str  # when: one of MOMENTS; for damage, between two runs
    victim: str  # which process, what happens to the server, or which sort of damage
    signal: str  # for a process; empty for a server and for damage
    delay: float  # seconds after the moment
    draw: float  # in [0, 1): which of the cells or files

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.moment, self.victim, self.signal)))


def trial(seed: int, number: int) -> Trial:
    """The trial of this number."""
    rng = random.Random(f"{seed} {number}")
    kind = KINDS[number % len(KINDS)]
    moment = rng.choice(list(MOMENTS))
    # once there is a report, no cell is left
    victim = rng.choice(("runner", "group") if moment == "report" else VICTIMS)
    signal = rng.choice(("KILL", "KILL", "KILL", "TERM"))
    match kind:
        case "damage":
            moment, victim, signal = "between runs", rng.choice(list(DAMAGES)), ""
        case "server":
            moment, victim, signal = rng.choice(("training", "checkpoint", "evaluation")), rng.choice(SERVER), ""
        case _ if victim == "runner":
            signal = rng.choice(("KILL", "TERM", "INT"))
    delay = rng.uniform(0, MOMENTS.get(moment, 0.0))
    return Trial(number, kind, moment, victim, signal, round(delay, 3), round(rng.random(), 6))
