"""Cards of the pinned extractors, small classifiers of one data set at one size. Does not import torch."""

import hashlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gans.errors import InputError, first_line
from gans.files import EXTRACTORS, outputs, write_text

SHIPPED = Path(__file__).parent / "weights"
PHOTOGRAPHS = "cifar10"  # the shipped classifier of small photographs


class Card(BaseModel):
    """A pinned extractor: data, accuracy on their test split, and the SHA-256 of its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    network: str = "plain"  # a key of `classifiers.NETWORKS`
    labels: tuple[str, ...] = ()  # names of the classes
    directory: Path = Field(SHIPPED, exclude=True)

    @property
    def weights(self) -> Path:
        return self.directory / f"{self.name}.safetensors"

    def verify(self) -> None:
        """Raise `InputError` unless the weights file is there and is the one that this card describes."""
        again = f"{self.command} --output {self.directory} --force"
        remedy = f"restore it with git, or train it again: {again}"
        if not self.weights.is_file():
            raise InputError(f"extractor '{self.name}': {self.weights} is missing; {remedy}")
        if sha256(self.weights) != self.sha256:
            raise InputError(f"extractor '{self.name}': {self.weights} is not the file on its card; {remedy}")

    def write(self) -> None:
        """Write the card next to its weights."""
        write_text(self.directory / f"{self.name}.json", self.model_dump_json(indent=2) + "\n")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own() -> Path:
    """The directory of the user's extractors: GANS_EXTRACTORS, or else a part of the outputs."""
    named = os.environ.get("GANS_EXTRACTORS")
    return Path(named) if named else outputs() / EXTRACTORS


def cards() -> dict[str, Card]:
    """All pinned extractors by name: the shipped ones, and the user's own."""
    paths = [path for directory in (SHIPPED, own()) for path in sorted(directory.glob("*.json"))]
    return {path.stem: _read(path) for path in paths}


def _read(path: Path) -> Card:
    try:
        card = Card.model_validate_json(path.read_bytes()).model_copy(update={"directory": path.parent})
    except (OSError, ValidationError) as error:
        why = first_line(error)
        raise InputError(f"{path} is not an extractor's card ({why}); restore it with git") from error
    if card.name != path.stem:
        raise InputError(f"{path} is the card of '{card.name}'; rename the file to the name of its extractor")
    return card
