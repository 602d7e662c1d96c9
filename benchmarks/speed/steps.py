"""Steps of training by turns: our trainer, its arithmetic alone, the tutorial's way.

Every contender runs a little in every round, so that all meet the same machine.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from benchmarks.speed.tutorial import Tutorial, seed
from benchmarks.speed.workloads import Workload
from gans.compute import devices
from gans.schema import Settled
from gans.training.recorder import Recorder
from gans.training.state import Training

Step = Callable[[], object]
Turn = Callable[[int], float]  # takes so many steps; seconds per step
LEAD_IN = 4  # steps before a turn: caches fill again, and a waiting data loader has four batches ready
PAUSE = 0.05  # seconds until threads of the last contender rest

_steps: dict[str, Step] = {}  # of contenders, in their process


@dataclass(frozen=True)
class Timing:
    device: torch.device
    threads: int  # on the CPU
    rounds: int  # turns of each contender
    seconds: float  # of a turn, at least one step

    def measure(
        self, workload: Workload, precision: Settled | None = None, others: Sequence[str] = ("tutorial",)
    ) -> pd.DataFrame:
        """A row for each round: what is timed, and seconds per step of ours, bare and the `others`.

        The others (`tutorial`, `compiled`) have processes of their own. Without a `precision` it is the device's
        default.
        """
        since, workload = time.monotonic(), workload.trained_in(precision or workload.default(self.device))
        makers = [self.ours, *(getattr(self, name) for name in others)]
        with ExitStack() as stack:
            turns: dict[str, Turn] = {}
            for make in makers:
                turns |= stack.enter_context(contenders(partial(make, workload), self.device))
            found = interleave(turns, self.rounds, self.seconds)
        found.attrs["seconds"] = time.monotonic() - since
        kind = workload.experiment.precision
        return found.assign(workload=workload.name, precision=kind, **{"is": workload.note})

    def ours(self, workload: Workload, compile: bool = False) -> dict[str, Step]:
        """Our trainer, and its arithmetic alone on the same networks."""
        devices.prepare(self.device, self.threads)
        training = Training(workload.experiment, workload.data, self.device, compile=compile)
        return {"ours": partial(train, training, Recorder(self.device)), "bare": bare(training)}

    def compiled(self, workload: Workload) -> dict[str, Step]:
        """Our trainer on networks that went through torch.compile."""
        return {"compiled": self.ours(workload, compile=True)["ours"]}

    def tutorial(self, workload: Workload) -> dict[str, Step]:
        """The same networks, batch and losses as tutorials train them, in a process as they leave it."""
        torch.set_num_threads(self.threads)
        seed()
        return {"tutorial": Tutorial(workload, self.device, Path(os.devnull).open("w")).step}


def train(training: Training, recorder: Recorder) -> None:
    """All that training does between evaluations: statistics, average of weights, clocks, logs when due."""
    with recorder.costs.of("training"):
        training.step()
    if training.due("logs"):
        recorder.log(training.images, training.means, training.update.metrics())


def bare(training: Training) -> Step:
    """The arithmetic of a step alone, prepared once: on the same images every time; MD-GAN swaps never.

    A recorded step is replayed, with the average of weights and the sums of statistics that are in it.
    """
    runner = training.runner
    if not runner.recorder:
        training.update.prepare(0)
        return training.update.compute

    def replay() -> None:
        while runner.graph is None:
            training.step()
        runner.graph.replay()

    return replay


# --- turns


def turn(step: Step, device: torch.device, count: int, lead_in: int = LEAD_IN) -> float:
    """Seconds per step. (torch.utils.benchmark leads in with two steps, too few for a data loader.)"""
    for _ in range(min(count, lead_in)):
        step()
    devices.wait(device)
    since = time.perf_counter()
    for _ in range(count):
        step()
    devices.wait(device)
    return (time.perf_counter() - since) / count


def interleave(turns: Mapping[str, Turn], rounds: int, seconds: float) -> pd.DataFrame:
    """Seconds per step of turns of about so many `seconds`: a row for each round, a column for each contender."""
    # the first steps are slow, one that records a graph for seconds
    counts = {name: max(1, round(seconds / min(take(2), take(2)))) for name, take in turns.items()}
    order, found = list(turns), []
    for _ in range(rounds):
        times = {}
        for name in order:
            times[name] = turns[name](counts[name])
            time.sleep(PAUSE)
        found.append(times)
        order.reverse()  # no contender always runs after the same neighbour
    return pd.DataFrame(found, columns=list(turns))


def ratio(slow: pd.Series, fast: pd.Series) -> str:
    """The median of the rounds' ratios, and the smallest and largest of them."""
    ratios = slow / fast
    return f"{ratios.median():.2f} ({ratios.min():.2f}–{ratios.max():.2f})"


@contextmanager
def contenders(make: Callable[[], Mapping[str, Step]], device: torch.device) -> Iterator[dict[str, Turn]]:
    """Turns of contenders that share a process of their own, apart from others' settings and memory.

    In that process `make`, which can be pickled, builds their steps by name.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as process:

        def take(name: str, count: int) -> float:
            return process.submit(_turn, name, device, count).result()

        yield {name: partial(take, name) for name in process.submit(_build, make).result()}


def _build(make: Callable[[], Mapping[str, Step]]) -> list[str]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which then ends this process
    _steps.update(make())
    return list(_steps)


def _turn(name: str, device: torch.device, count: int) -> float:
    return turn(_steps[name], device, count)
