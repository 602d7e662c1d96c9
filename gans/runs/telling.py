"""What can be told about a run, to whomever it is told: a tracking store, or the run's journal."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gans import schema
from gans.data.images import ImageData

# MLflow's words for how a run ended; a diverged run is not a crash but has no result
STATUSES = {
    schema.FINISHED: "FINISHED",
    schema.DIVERGED: "FAILED",
    schema.FAILED: "FAILED",
    schema.TIMED_OUT: "KILLED",
    schema.PRUNED: "KILLED",
    schema.INTERRUPTED: "KILLED",
}


class Telling(ABC):
    """One run that is being written.

    Attributes:
        id: MLflow's, or what the run is known by until MLflow has given it one.
    """

    id: str

    @abstractmethod
    def log(self, images: int, values: Mapping[str, float]) -> None:
        """Metrics after `images` images."""

    @abstractmethod
    def flush(self) -> None:
        """Nothing that was told so far is lost from now on."""

    @abstractmethod
    def params(self, values: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def tag(self, values: Mapping[str, str]) -> None: ...

    @abstractmethod
    def untag(self, prefix: str) -> None:
        """Remove all tags whose names begin like this."""

    @abstractmethod
    def input(self, name: str, digest: str, source: str, profile: str) -> None:
        """A data set as MLflow knows data sets."""

    @abstractmethod
    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file, kept in this folder of the run's artifacts."""

    @abstractmethod
    def artifacts(self, path: Path, folder: str) -> None:
        """All files of a folder."""

    @abstractmethod
    def text(self, content: str, name: str) -> None:
        """A file of this content."""

    @abstractmethod
    def end(self, status: str) -> None:
        """The run is over: FINISHED, FAILED or KILLED."""

    def dataset(self, data: ImageData) -> None:
        """The data set: name, digest, shape."""
        profile = {
            "train images": len(data.train),
            "test images": len(data.test),
            "shape": list(data.train.shape[1:]),
            "classes": len(data.classes),
            "sha256": data.hash,
        }
        source = json.dumps({"tags": {schema.DATA: data.name}})
        self.input(data.title, data.hash[:12], source, json.dumps(profile))

    def finish(self, status: str, reason: str = "") -> None:
        """End the run as `finished`, `diverged`, `failed` or `timed out`."""
        self.flush()
        self.tag({schema.STATUS: status, schema.REASON: reason})
        self.end(STATUSES[status])

    def interrupt(self, reason: str) -> None:
        """Leave the run as stopped on the way, to be resumed."""
        self.finish(schema.INTERRUPTED, reason)
