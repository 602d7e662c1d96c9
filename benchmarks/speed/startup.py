"""From the command to the first step: `python -m benchmarks.speed.startup MODEL DEVICE SINCE`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any


def start_up(model: str, device: str) -> dict[str, Any]:
    """Seconds by part of the start of a `digits` cell in a fresh process, and its peak memory."""
    command = [sys.executable, "-m", "benchmarks.speed.startup", model, device, str(time.time())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(model: str, name: str, since: float) -> dict[str, Any]:
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
    for i in range(1, 10):
        update.step(i * update.images_per_step)
    devices.wait(device)
    seconds = {"import": imported - since, "build": built - imported, "first step": first - built}
    return {"model": model, **seconds, "peak MiB": devices.peak_memory(device)}


if __name__ == "__main__":
    model, name, since = sys.argv[1:]
    print(json.dumps(measure(model, name, float(since))), flush=True)
