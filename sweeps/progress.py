"""The progress of a sweep, on the display of all commands."""

from optuna.study import Study

from benchmarks.job import Job, Progress, Restarted, Result
from gans import schema
from gans.commands.progress import Display
from sweeps.study import Sweep, Tally, counted

OTHERS = "trials/others"


def display(study: Study, sweep: Sweep) -> Display:
    """A display of the trials that are left, those of other processes included."""
    first = len(study.get_trials(deepcopy=False))
    numbers = range(first, first + max(0, sweep.trials - counted(study)))
    return Display({f"trial/{number}": sweep.base.budget for number in numbers}, unit="trials")


class TrialScreen:
    """Shows events of jobs under the numbers of their trials."""

    def __init__(self, study: Study, screen: Display) -> None:
        self.study, self.screen = study, screen
        self.names: dict[str, str] = {}  # of running trials, by job
        self.waiting = False

    def show(self, job: Job, what: object) -> None:
        match what:
            case Progress(_, values) if "trial" in values:
                self.begin(job.name, f"trial/{values['trial']:.0f}", job.images)
            case Progress(images, values) if job.name in self.names:
                self.screen.update(self.names[job.name], images, values)
            case Restarted(why) if job.name in self.names:
                self.screen.end(self.names.pop(job.name), schema.INTERRUPTED, why, counts=False)
            case Result(status, reason) if status != "surplus":
                if job.name not in self.names:
                    self.begin(job.name, f"trial/{job.name}", 0)
                reason = "  ".join(part for part in (reason, str(Tally.of(self.study))) if part)
                self.screen.end(self.names.pop(job.name), status, reason)

    def begin(self, job: str, name: str, images: int) -> None:
        if name in self.names.values():  # retried, since the process that still trains it gave no sign
            name += f" ({job})"
        self.names[job] = name
        self.screen.start(name, images)

    def wait(self) -> None:
        """Show that other processes have the last trials."""
        if not self.waiting:
            self.waiting = True
            self.screen.start(OTHERS, 0)
        self.screen.wait(OTHERS, f"other processes have the last trials: {Tally.of(self.study)}")
