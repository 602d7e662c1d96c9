"""`gans speed | gpu`. Slow imports follow the checks of options."""

from __future__ import annotations

from benchmarks.speed.options import Goals, Speed
from gans.errors import InputError
from gans.places import SPEED


def speed(options: Speed = Speed()) -> int:
    """Measure, show the page and write it."""
    from rich.console import Console
    from rich.markdown import Markdown

    from benchmarks.executors.processes import preload
    from benchmarks.speed.measurement import Measurement

    measurement = Measurement(options)
    preload("benchmarks.speed.steps")
    page = measurement.run()
    path = page.write(page.machine["device"], options.outputs / SPEED)
    Console().print(Markdown(page.markdown()))
    print(f"written: {path}")
    return 0


def gpu(options: Goals = Goals()) -> int:
    """Measure a GPU's figures; 0 if all were measured. Without a GPU, an InputError unless parts are named."""
    from gans.compute import devices

    device = devices.resolve(options.device)
    if device.type != "cuda" and not options.parts:
        raise InputError("gans gpu needs a CUDA device, and this machine has none; gans speed measures a CPU")
    from benchmarks.executors.processes import preload
    from benchmarks.speed.goals import measure

    preload("benchmarks.speed.steps")
    return measure(options, device)
