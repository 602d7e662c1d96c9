"""What the journal in a folder says last of its run: true under the folder's lock, with a store or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gans import schema
from gans.runs.journal import Journal


@dataclass(frozen=True)
class Last:
    """The last that was told.

    Attributes:
        tags: of the run; without those of a time before its journal.
        parent: key of the invocation that took it up last.
        ended: when it ended, in milliseconds since 1970; 0 while it has not.
    """

    tags: Mapping[str, str]
    parent: str = ""
    ended: int = 0

    @property
    def status(self) -> str:
        return self.tags.get(schema.STATUS, "")

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Nothing, if the folder has no journal."""
        journal = Journal.read(folder)
        return cls.told(journal) if journal else cls({})

    @classmethod
    def told(cls, journal: Journal) -> Self:
        tags, parent, ended = dict(journal.about.get("tags", {})), str(journal.about.get("parent", "")), 0
        for line in journal.lines():
            match line.call:
                case "tag":
                    tags |= line.given["values"]
                case "untag":
                    tags = {name: text for name, text in tags.items() if not name.startswith(line.given["prefix"])}
                case "resume":
                    parent, ended = line.given["parent"], 0
                case "end":
                    ended = line.at
        return cls(tags, parent, ended)
