"""The cards of the extractors pinned in this repository: what their weights are, and where they came from."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gans.errors import InputError
from gans.files import caches, write_text
from gans.places import EXTRACTORS, outputs

SHIPPED = Path(__file__).parent / "weights"
MADE = "extractors"  # the folder of a cache with those that were trained because there was none
TO_BE_MADE = "own-"  # how their names begin
# of the file that torch-fidelity and pytorch-fid publish: the graph of 2015-12-05, converted
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


@dataclass(frozen=True)
class Card:
    """What is known of one pinned extractor. It holds no date and no path, so that it can be made again.

    `data` is what it was trained on. `accuracy` is the fraction of that data set's test split that the
    classifier gets right; `sha256` is of the weights file, which lies beside the card under the same name;
    `network` is a key of `classifiers.NETWORKS`; `labels` are the names of the classes.
    """

    name: str
    data: str
    data_hash: str
    channels: int
    resolution: int
    classes: int
    features: int
    accuracy: float
    command: str
    torch: str
    sha256: str
    network: str = "plain"
    labels: tuple[str, ...] = ()
    directory: Path = field(default=SHIPPED, compare=False)

    @property
    def weights(self) -> Path:
        """The weights file; see `verify`."""
        return self.directory / f"{self.name}.safetensors"

    def verify(self) -> None:
        """Raise `InputError` unless the weights file is there and is the one that this card describes."""
        if not self.weights.is_file():
            raise InputError(f"extractor '{self.name}': {self.weights} is missing; {self._remedy}")
        if sha256(self.weights) != self.sha256:
            raise InputError(
                f"extractor '{self.name}': {self.weights} is not the file on its card; {self._remedy}"
            )

    @property
    def public(self) -> dict[str, Any]:
        """What the card says, without where it lies."""
        return {key: value for key, value in asdict(self).items() if key != "directory"}

    @property
    def made(self) -> bool:
        """Whether it was trained because the data set had none, and is kept in a cache."""
        return self.directory in caches(MADE)

    @property
    def _remedy(self) -> str:
        if self.made:
            return f"delete {self.directory / self.name}.json to train it again"
        return f"restore it with git, or train it again: {self.command} --output {self.directory} --force"

    def write(self) -> Path:
        """Write the card beside its weights and return its path."""
        path = self.directory / f"{self.name}.json"
        write_text(path, json.dumps(self.public, indent=2) + "\n")
        return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own() -> Path:
    """The directory of extractors that are made here: GANS_EXTRACTORS, or else among the outputs."""
    named = os.environ.get("GANS_EXTRACTORS")
    return Path(named) if named else outputs() / EXTRACTORS


def cards() -> dict[str, Card]:
    """All pinned extractors by name: the shipped ones, those made on demand (`stand_in`), and the user's own.

    A card that cannot be read raises `InputError`.
    """
    directories = [SHIPPED, *caches(MADE), own()]
    paths = [path for directory in directories for path in sorted(directory.glob("*.json"))]
    return {path.stem: _read(path) for path in paths}


def _read(path: Path) -> Card:
    try:
        fields = json.loads(path.read_text())
        card = Card(**fields | {"labels": tuple(fields.get("labels", ()))}, directory=path.parent)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not an extractor's card ({error}); restore it with git") from error
    if card.name != path.stem:
        raise InputError(f"{path} is the card of '{card.name}'; give the file the name of its extractor")
    return card
