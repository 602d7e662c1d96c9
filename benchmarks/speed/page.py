"""What was measured, as markdown and JSON. Tables fit a terminal of 80 columns."""

import json
import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pandas as pd
import torch

from gans import schema
from gans.compute import devices
from gans.files import write_text
from gans.places import free
from gans.runs.run import provenance
from reports.sheet import markdown


@dataclass(frozen=True)
class Section:
    """A table of the page, what to know of it, and the same figures unrounded, for programs."""

    title: str
    note: str
    table: pd.DataFrame
    figures: pd.DataFrame


@dataclass
class Page:
    """All that was measured, and by which machine."""

    title: str
    machine: dict[str, str]
    sections: list[Section] = field(default_factory=list)

    def markdown(self) -> str:
        parts = [f"# {self.title}", markdown(pd.DataFrame(list(self.machine.items()), columns=["", " "]))]
        for section in self.sections:
            parts += [f"## {section.title}", section.note, markdown(section.table)]
        return "\n\n".join(parts) + "\n"

    def write(self, name: str, folder: Path) -> Path:
        """Write both files under the device's name; earlier measurements stay."""
        page, figures = free(folder, slug(name), ".md", ".json")
        numbers = {section.title: section.figures.to_dict("records") for section in self.sections}
        write_text(page, self.markdown())
        write_text(figures, json.dumps({"machine": self.machine, **numbers}, indent=1) + "\n")
        return page


def machine(device: torch.device, command: str) -> dict[str, str]:
    """What measured, and what for."""
    code = provenance()
    return {
        "device": devices.describe(device),
        "commit": code[schema.COMMIT] + (" (changed)" if code[schema.DIRTY] == "true" else ""),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "command": command,
    }


def slug(device: str) -> str:
    """A device's name for a file, without what all processors are called: `intel-xeon-2-cores`."""
    return "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)|processor|\bcpu\b", " ", device.lower())))
