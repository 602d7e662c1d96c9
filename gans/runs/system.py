"""What the machine does while a run is under way, measured as MLflow measures it and told to the run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from mlflow.environment_variables import (
    MLFLOW_SYSTEM_METRICS_NODE_ID,
    MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING,
    MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL,
)
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

PREFIX = "system/"  # how the names of these metrics begin
EVERY = 10.0  # seconds between samples, unless MLflow's environment says otherwise


class SystemWatch:
    """Samples CPU, memory, disk, network and GPU until it is stopped.

    MLflow's own monitor asks the server after every sample, and ends when that does not answer.

    Args:
        log: is told a sample's number and its metrics.
        first: number of the first sample; those before it are of earlier sessions.
    """

    def __init__(self, log: Callable[[int, Mapping[str, float]], None], first: int) -> None:
        self.log, self.number = log, first
        self.monitors = monitors()
        self.interval = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or EVERY
        self.samples = MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING.get() or 1
        node = MLFLOW_SYSTEM_METRICS_NODE_ID.get()
        self.prefix = f"{PREFIX}{node}/" if node else PREFIX
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True, name="system metrics")
        self.thread.start()

    def watch(self) -> None:
        while not self.over.is_set():
            for _ in range(self.samples):
                for monitor in self.monitors:
                    monitor.collect_metrics()
                if self.over.wait(self.interval):
                    return
            self.tell()

    def tell(self) -> None:
        """The means of the samples since the last time."""
        found = {name: value for one in self.monitors for name, value in one.aggregate_metrics().items()}
        self.log(self.number, {f"{self.prefix}{name}": value for name, value in found.items()})
        self.number += 1
        for monitor in self.monitors:
            monitor.clear_metrics()

    def stop(self) -> None:
        self.over.set()
        self.thread.join()


def monitors() -> list[BaseMetricsMonitor]:
    """MLflow's, those of GPUs where there are some."""
    found: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    for kind in (GPUMonitor, ROCMMonitor):
        with suppress(Exception):  # neither the library nor the device is there
            found.append(kind())
            break
    return found
