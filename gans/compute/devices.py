"""The boundary between the suite and the machine: which device, its name, its memory, its energy."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from gans.errors import InputError

# mallopt(3): parameters and the values that keep memory in the process
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1


def resolve(name: str = "auto") -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:1`; `auto` takes CUDA when there is one.

    Raises:
        InputError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device '{name}'; take auto, cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device '{name}' is not supported; take auto, cpu, cuda or cuda:0")
    if device.type == "cpu":
        return device
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise InputError(f"device '{name}' is not on this machine; take auto or cpu")
    return torch.device("cuda", index)


def prepare(device: torch.device, threads: int) -> None:
    """Settings of this process: CPU threads, memory, cuDNN's choice of kernels by trial (shapes are static)."""
    torch.set_num_threads(threads)
    keep_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        # scores are computed in IEEE float32 on every device; training says what it wants (gans.compute.precision)
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]


def keep_memory() -> None:
    """Let glibc keep what is freed for the next step; nothing where the C library is another.

    By default it maps every large tensor anew and hands it back at once, so that each step pays the kernel for
    clearing the same pages again: thousands of page faults.
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
    """A CPU tensor on the device; the host does not wait for what is queued there."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(device: torch.device) -> str:
    """The device as a person names it: the GPU's or the processor's model."""
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
    """Return when the device has done what this thread queued; the clock is read at such moments only."""
    if device.type == "cuda":
        # not for the whole device: another thread may be recording a step there, which that would break
        torch.cuda.current_stream(device).synchronize()


def peak_memory(device: torch.device) -> float:
    """Most memory in use so far, in MiB: of the CUDA allocator, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):  # Linux hands ru_maxrss of the parent through exec; this one begins anew
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def room(device: torch.device, gibibytes: float) -> int:
    """How many processes that take so much memory each find room on a CUDA device now; at least one."""
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(free / 2**30 / gibibytes))


def energy(device: torch.device) -> float | None:
    """Joules the device has used since its driver was loaded; None where it does not say."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    except pynvml.NVMLError:  # older cards do not count
        return None
