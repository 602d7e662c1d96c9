"""The boundary to the machine: which device, its name, its memory, its energy."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from gans.compute import precision
from gans.errors import InputError

# mallopt(3): parameters and the values that keep memory in the process
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1

# Held while a CUDA graph is recorded, its first steps on a side stream included. Cells that share a GPU must not
# do so at once: torch has 32 streams of a priority and hands them out in turn, so that two cells' side streams
# may be the same, and starting a recording waits for the whole GPU, which another recording forbids. It is taken
# within blocks of `gans.compute.precision`, never around them: else two cells could wait for each other.
RECORDING = threading.RLock()


def resolve(name: str = "auto") -> torch.device:
    """The device for `auto`, `cpu`, `mps`, `cuda` or `cuda:1`; `auto` takes CUDA when there is one, else the CPU.

    Raises:
        InputError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device '{name}'; take auto, cpu, mps, cuda or cuda:0") from None
    if device.type not in ("cpu", "mps", "cuda"):
        raise InputError(f"device '{name}' is not supported; take auto, cpu, mps, cuda or cuda:0")
    if device.type == "cpu":
        return device
    if device.type == "mps" and torch.backends.mps.is_available():
        return torch.device("mps")
    index = device.index or 0
    if device.type == "mps" or index >= torch.cuda.device_count():
        raise InputError(f"device '{name}' is not on this machine; take auto or cpu")
    return torch.device("cuda", index)


def exact(device: torch.device) -> torch.device:
    """Where float64 is computed for work on a device: scores are, and Apple's GPUs have none."""
    return torch.device("cpu") if device.type == "mps" else device


def gpus(name: str = "auto") -> list[int]:
    """The CUDA devices of a name, by index: `auto` and `cuda` are all there are; none: the CPU.

    Raises:
        InputError: no such device on this machine.
    """
    device = resolve(name)
    if device.type != "cuda":
        return []
    return [device.index] if ":" in name else list(range(torch.cuda.device_count()))


def visible(gpu: int) -> str:
    """`CUDA_VISIBLE_DEVICES` for a process that uses one of this process's GPUs alone."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[gpu].strip() if names else str(gpu)


def prepare(device: torch.device, threads: int) -> None:
    """Settings of this process: CPU threads, memory, no choice of kernels by trial.

    Cells that share a process share these settings: all are given the same number of threads.
    """
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")  # of the process, so that no score sets them back for another cell
    keep_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # a trial waits for the whole GPU, for seconds where cells share it, and breaks their recordings; the
        # kernels that cuDNN takes without one are as fast (docs/speed-log.md), and the same every time
        torch.backends.cudnn.benchmark = False
        # scores are computed in IEEE float32 on every device; training sets its own (gans.compute.precision)
        precision.UNITS.rest("ieee")


def keep_memory() -> None:
    """Let glibc keep freed memory for the next step; nothing with another C library.

    By default it maps every large tensor again and returns it at once, so that in each step the kernel clears the
    same pages again: thousands of page faults.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on the device, in the memory layout that is fastest there."""
    # oneDNN's and cuDNN's convolutions are faster in this layout
    return network.to(device).to(memory_format=torch.channels_last)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device, copied without waiting for queued work."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def fetch(tensor: Tensor) -> Callable[[], list[float]]:
    """A tensor's numbers as they are once the device has done what is queued; only reading them waits for it."""
    if tensor.device.type != "cuda":
        numbers = tensor.tolist()
        return lambda: numbers
    here = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
    copied = torch.cuda.current_stream(tensor.device).record_event()

    def read() -> list[float]:
        copied.synchronize()
        return here.tolist()

    return read


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(device: torch.device) -> str:
    """The GPU's or the processor's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()} ({cores()} cores)"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def wait(device: torch.device) -> None:
    """Return when the device has done what this thread queued; other cells on the GPU have other streams."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


class Streams:
    """Streams of a CUDA device, each for one user at a time.

    They are reused, since the memory that a user frees stays with its stream. All are of high priority: torch
    hands out the 32 streams of a priority in turn, and graphs are recorded on those of normal priority, where
    work of others on the same stream would be recorded too.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.idle: list[torch.cuda.Stream] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """A block whose work goes to a stream of its own."""
        stream = self.idle.pop() if self.idle else torch.cuda.Stream(self.device, priority=-1)
        try:
            with torch.cuda.device(self.device), torch.cuda.stream(stream):
                yield
        finally:
            self.idle.append(stream)


def lost(device: torch.device) -> bool:
    """Whether the process can no longer use the device: after some CUDA errors every call fails."""
    try:
        torch.zeros(1, device=device).item()
    except torch.OutOfMemoryError:
        return False
    except RuntimeError:
        return True
    return False


def peak_memory(device: torch.device) -> float:
    """Peak memory of this process in MiB: of the CUDA allocator, or resident; for all of its cells together."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):  # Linux hands ru_maxrss of the parent through exec; this counter starts at 0
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def room(device: torch.device, gibibytes: float) -> int:
    """How many cells of so much memory fit on a CUDA device now; at least one."""
    import pynvml

    try:  # of the driver: a call of CUDA would take some of the memory
        free = pynvml.nvmlDeviceGetMemoryInfo(_nvml(device)).free
    except pynvml.NVMLError:
        free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(free / 2**30 / gibibytes))


def energy(device: torch.device) -> float | None:
    """Joules that the device has used since its driver was loaded; None where it does not count them."""
    if device.type != "cuda":
        return None
    import pynvml

    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(_nvml(device)) / 1000
    except pynvml.NVMLError:  # older cards do not count
        return None


@cache
def _nvml(device: torch.device) -> Any:
    """A CUDA device in the driver's own library, independent of what is visible to this process."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
