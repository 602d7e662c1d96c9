"""What `gans gpu` measures once, in a process of its own: equality of recorded steps, scoring, a profile."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from benchmarks.speed.steps import bare
from benchmarks.speed.workloads import Workload, papers
from gans.compute import devices
from gans.fidelity.gaussian import Gaussian
from gans.training.state import Training

# Huang et al. 2024, for CIFAR-10; their machines did 90 images a second on each L40
R3GAN = papers("cr3gan", {"networks": {"width": 768, "latent": 64}, "batch": 512})
STEPS = 10


def recorded_difference(workload: Workload, device: torch.device) -> list[tuple[float, str]]:
    """The largest difference of a statistic's mean over ten steps, recorded and called, in percent of its size."""
    means = []
    for graph in (None, False):
        training = Training(workload.trained_in("float32").experiment, workload.data, device, graph)
        for _ in range(STEPS):
            training.step()
        means.append(training.means.read())
    recorded, called = means
    return [(max(100 * abs(recorded[name] / value - 1) for name, value in called.items()), f"of {STEPS} steps")]


def score(device: torch.device, count: int = 50_000, dimensions: int = 2_048) -> list[tuple[float, str]]:
    """Seconds to compute a Fréchet distance and its error from features of generated images."""
    rng = torch.Generator(device).manual_seed(0)
    real, features = torch.randn((2, count, dimensions), generator=rng, device=device)
    reference = Gaussian.of(real)
    _ = reference.root  # is kept with the reference
    devices.wait(device)
    since = time.perf_counter()
    fitted = Gaussian.of(features)
    distance = reference.distance(fitted), reference.error(features, fitted)
    return [(time.perf_counter() - since, "distance {:.3g}, error {:.2g}".format(*distance))]


def profile(workload: Workload, device: torch.device, folder: Path) -> list[tuple[float, str]]:
    """Kernels in a step, and the percentage of its time without one; on a CPU, of operations."""
    training = Training(workload.trained_in(workload.default(device)).experiment, workload.data, device)
    step = bare(training)
    step()
    kind, more = (DeviceType.CUDA, [ProfilerActivity.CUDA]) if device.type == "cuda" else (DeviceType.CPU, [])
    with torch.profiler.profile(activities=[ProfilerActivity.CPU, *more]) as seen:
        for _ in range(STEPS):
            step()
        devices.wait(device)
    path = folder / f"{workload.name} profile.txt"
    path.write_text(seen.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=50))
    spans = sorted((e.time_range.start, e.time_range.end) for e in seen.events() if e.device_type == kind)
    covered, end = 0.0, spans[0][0]
    for start, stop in spans:
        covered, end = covered + max(0.0, stop - max(start, end)), max(end, stop)
    whole = end - spans[0][0]
    note = f"{covered / STEPS / 1000:.3f} of {whole / STEPS / 1000:.3f} ms; by kernel in {path.name}"
    return [(len(spans) / STEPS, note), (100 * (1 - covered / whole), "")]
