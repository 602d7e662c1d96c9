"""From the command to the first step, in seconds by part.

`python -m benchmarks.speed.startup MODEL DEVICE PRECISION`
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

SPAWNED = "GANS_SPEED_SPAWNED"  # when the parent gave the command, in seconds since 1970


def start(model: str, name: str, precision: Any) -> dict[str, float]:
    from benchmarks.speed.workloads import small
    from gans.compute import devices  # all that a training imports
    from gans.runs import execute  # noqa: F401  # all that a training imports

    imported = time.time()
    device = devices.resolve(name)
    devices.prepare(device, devices.cores())
    workload = small(model, small(model).default(device) if precision == "auto" else precision)
    update = workload.update(device)
    built = time.time()
    update.step(0)
    devices.wait(device)
    first = time.time()
    for i in range(1, 10):
        update.step(i * update.images_per_step)
    devices.wait(device)
    spawned = float(os.environ[SPAWNED])
    return {
        "import": imported - spawned,
        "build": built - imported,
        "first step": first - built,
        "MiB": devices.peak_memory(device),
    }


if __name__ == "__main__":
    print(json.dumps(start(*sys.argv[1:])), flush=True)
