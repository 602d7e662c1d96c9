"""From the command to the first step: `python -m benchmarks.speed.startup MODEL DEVICE SINCE`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.speed.options import Model


def start_up(model: Model, device: str) -> dict[str, Any]:
    """Seconds by part of the start of a `digits` cell in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed.startup", model, device, str(time.time())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(model: Model, name: str, since: float) -> dict[str, Any]:
    """The same, in that process: the command was given `since` 1970."""
    from benchmarks.speed.workloads import small
    from gans.compute import devices
    from gans.runs import execute  # noqa: F401  # all that a cell imports

    imported = time.time()
    device = devices.resolve(name)
    devices.prepare(device, devices.cores())
    workload = small(model)
    update = workload.trained_in(workload.default(device)).update(device)
    built = time.time()
    update.step(0)
    devices.wait(device)
    first = time.time()
    return {"model": model, "import": imported - since, "build": built - imported, "first step": first - built}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], float(sys.argv[3]))), flush=True)  # type: ignore[arg-type]
