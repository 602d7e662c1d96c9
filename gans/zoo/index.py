"""The index of a zoo, and its files, which must match their hashes."""

import json
import os
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from gans.config import Count, Settings, parse_toml, read_toml, validated
from gans.errors import InputError, first_line, unknown
from gans.files import cache, expand, file_name, taken, write_bytes, write_text
from gans.zoo import hub

INDEX = "zoo.toml"
HEADER = "# Trained generators, written by `gans zoo --add`. A file with another hash is refused.\n"
PREFIX = "zoo:"  # of a generator's name on a command line
SHIPPED = Path(__file__).parent / "shipped"
PATIENCE = 20.0  # seconds to wait for a server
LARGEST, LARGEST_INDEX = 2**31, 2**20  # bytes of a generator, of an index

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Entry(Settings):
    """One generator of an index."""

    file: str = Field("", description="its safetensors file in the folder of the index")
    url: str = Field("", description="or where on the web it is")
    sha256: Digest = Field(description="of the file")
    size: int = Field(description="bytes", ge=1, le=LARGEST)
    model: str = Field(description="a recipe")
    data: str = Field(description="the data set")
    channels: Count = Field(description="of its images: 1 or 3")
    side: Count = Field(description="of its images, in pixels")
    metric: str = Field(description="the distance of the score, such as fd_digits")
    score: float = Field(description="of this file, on latents that chose nothing; lower is better")
    error: float = Field(description="standard error over draws of its images")
    score_images: int = Field(description="how many images were scored", ge=1)
    extractor_sha256: Digest = Field(description="of what gave the features")
    scoring_version: Count = Field(description="of the scoring")
    licence: str = Field(description="of the weights")
    data_licence: str = Field(description="of the data that it was trained on")
    commit: str = Field(description="of the code that trained it")
    command: str = Field(description="what trains it again")

    @field_validator("file")
    @classmethod
    def beside_the_index(cls, file: str) -> str:
        return file_name(file, "file") if file else file

    @field_validator("url")
    @classmethod
    def on_the_web(cls, url: str) -> str:
        if url and not re.match(r"https?://", url):
            raise InputError(f"url = '{url}' does not begin with https:// or http://")
        return url

    @model_validator(mode="after")
    def somewhere(self) -> Self:
        if bool(self.file) == bool(self.url):
            raise InputError("give either file or url")
        return self


@dataclass(frozen=True)
class Zoo:
    """A folder, an address on the web or `hf:OWNER/NAME`, with `zoo.toml`: files with hashes, scores, licences."""

    place: str

    def entries(self) -> dict[str, Entry]:
        """All entries of the index, by name; an InputError if there is none, or an entry is not valid."""
        table, where = self._table()
        for name, value in table.items():
            if not isinstance(value, Mapping):
                raise InputError(f"{where}: {name} is not a table of a generator; write [{name}]")
            file_name(name, f"{where}: generator")
        return {name: validated(Entry, value, where, name) for name, value in table.items()}

    def path(self, name: str, entry: Entry) -> Path:
        """The file of a generator, fetched to the cache if it is on the web.

        An InputError if it is missing, cannot be fetched, or does not have the hash of the index.
        """
        url = entry.url or (f"{self.place.rstrip('/')}/{entry.file}" if remote(self.place) else "")
        path = cache("zoo") / f"{entry.sha256[:16]}.safetensors" if url else Path(self.place) / entry.file
        if url and not path.is_file():
            content = fetch(url, entry.size)
            check(content, entry, f"{name}: what {url} gives")
            write_bytes(path, content)
        if not path.is_file():
            raise InputError(f"{name}: {path} is missing; restore it, or remove it from the index")
        check(path.read_bytes(), entry, f"{name}: {path}")
        return path

    def add(self, added: Mapping[str, Entry], contents: Mapping[str, bytes], force: bool = False) -> None:
        """Write files, by name, to a folder, and its index; `force`: over others of the same names."""
        folder = Path(self.place)
        entries = self.entries() if (folder / INDEX).exists() else {}
        files = {folder / file: content for file, content in contents.items()}
        for path, content in files.items():
            if not force and path.exists() and path.read_bytes() != content:
                raise taken(path)
        for path, content in files.items():
            write_bytes(path, content)
        tables = [as_toml(name, entry) for name, entry in sorted((entries | dict(added)).items())]
        write_text(folder / INDEX, HEADER + "".join(tables))

    def _table(self) -> tuple[dict[str, Any], str]:
        """The index as it is, and what error messages call it."""
        if not remote(self.place):
            path = expand(self.place) / INDEX
            return read_toml(path), str(path)
        url = f"{self.place.rstrip('/')}/{INDEX}"
        content = fetch(url, LARGEST_INDEX)
        try:
            return parse_toml(content.decode()), url
        except ValueError as error:
            raise InputError(f"{url} is not an index of a zoo: {first_line(error)}") from None


def as_toml(name: str, entry: Entry) -> str:
    """A table of the index; JSON's strings and numbers are TOML's."""
    fields = entry.model_dump(exclude_defaults=True)
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join([f"\n[{name}]", *lines, ""])


def remote(place: str) -> bool:
    return bool(re.match(rf"https?://|{hub.PREFIX}", place))


def fetch(url: str, most: int) -> bytes:
    """What is at an address; an InputError if it cannot be fetched, or has more than `most` bytes."""
    in_hub = url.startswith(hub.PREFIX)
    try:
        with hub.opened(url) if in_hub else urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            content = answer.read(most + 1)
    except InputError:
        raise
    except Exception as error:  # of several network libraries
        raise InputError(f"cannot fetch {url} ({first_line(error)}); check the address and the network") from None
    if len(content) > most:
        raise InputError(f"{url} is larger than {most:,} bytes; it is not the expected file")
    return content


def check(content: bytes, entry: Entry, what: str) -> None:
    """Refuse a file that is not the one that the index describes."""
    found = sha256(content).hexdigest()
    if found != entry.sha256:
        raise InputError(
            f"{what} is not the file of the index: its SHA-256 begins with {found[:12]}, not {entry.sha256[:12]}; "
            f"fetch it again, or correct the index"
        )


def zoos() -> list[Zoo]:
    """The shipped one, then the one that `GANS_ZOO` names."""
    own = os.environ.get("GANS_ZOO")
    return [Zoo(str(SHIPPED)), *([Zoo(own)] if own else [])]


def named(name: str) -> bool:
    """Whether a name on the command line is that of a zoo's generator, `zoo:NAME`."""
    return name.startswith(PREFIX)


def find(name: str) -> Path:
    """The file of a generator, by `[zoo:]NAME` or `[zoo:]PLACE#NAME`; an InputError without it, as `Zoo.path`.

    The only generator of a repository of the hub needs no name: `zoo:hf:OWNER/NAME`.
    """
    place, _, short = name.removeprefix(PREFIX).rpartition("#")
    if short.startswith(hub.PREFIX):
        place, short = short, ""
    known: list[str] = []
    for zoo in [Zoo(place)] if place else zoos():  # the shipped one first: it needs no network
        entries = zoo.entries()
        if not short and len(entries) == 1:
            (short,) = entries
        if short in entries:
            return zoo.path(short, entries[short])
        known += entries
    raise unknown("generator", short, known, f" in {place}" if place else " in the zoo")
