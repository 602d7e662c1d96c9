"""A process of its own for what can only be measured in one: `python -m benchmarks.speed.child TASK ...`.

`start MODEL DEVICE`: from the command to the first training step, in seconds by part.
`train MODEL THREADS STEPS`: so many steps of a `digits` cell once a line comes in; prints the seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time

SPAWNED = "GANS_SPEED_SPAWNED"  # when the parent gave the command, in seconds since 1970


def start(model: str, name: str) -> dict[str, float]:
    from benchmarks.speed.workloads import small
    from gans import cell, devices  # noqa: F401  # all that a training imports

    imported = time.time()
    device = devices.resolve(name)
    devices.prepare(device, devices.cores())
    workload = small(model)
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


def train(model: str, threads: str, steps: str) -> dict[str, float]:
    import torch

    from benchmarks.speed.contenders import ours, training
    from benchmarks.speed.workloads import small
    from gans import devices

    device = torch.device("cpu")
    devices.prepare(device, int(threads))
    run = ours(training(small(model), device))
    run(3)
    print("ready", flush=True)
    sys.stdin.readline()
    since = time.perf_counter()
    run(int(steps))
    return {"seconds": time.perf_counter() - since}


if __name__ == "__main__":
    answer = start(*sys.argv[2:]) if sys.argv[1] == "start" else train(*sys.argv[2:])
    print(json.dumps(answer), flush=True)
