"""Zoos on Hugging Face's hub: `hf:OWNER/NAME` is a repository with an index, generators and a model card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gans.errors import InputError, first_line

if TYPE_CHECKING:
    from gans.zoo.index import Entry

PREFIX = "hf:"
CARD, SAMPLES = "README.md", "samples.png"
# as the hub writes them; others are "other", with their name
LICENCES = (
    "apache-2.0",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "mit",
    "unlicense",
)


def check_repository(name: str) -> None:
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name, re.ASCII):
        raise InputError(f"'{name}' is not a repository of the hub; write OWNER/NAME")


def library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise InputError("the hub needs a library: pip install huggingface_hub") from None
    return huggingface_hub


def opened(address: str) -> Any:
    """The file `hf:OWNER/NAME/FILE`, open to read."""
    return library().HfFileSystem().open(address.removeprefix(PREFIX))


def upload(folder: Path, files: Iterable[str], repository: str, private: bool) -> str:
    """Upload these files of a folder to a repository, which is made if there is none; returns its address."""
    hub = library()
    try:
        address = hub.HfApi().create_repo(repository, private=private, exist_ok=True)
        hub.HfApi().upload_folder(repo_id=repository, folder_path=folder, allow_patterns=list(files))
    except Exception as error:  # of several network libraries, by version
        remedy = "check the network, log in with `hf auth login`, and push again"
        raise InputError(f"cannot upload to {repository} ({first_line(error)}); {remedy}") from None
    return str(address)


def card(repository: str, name: str, entry: Entry, scores: Mapping[str, tuple[float, float]], how: str) -> str:
    """The model card of a repository with one generator.

    Args:
        scores: value and standard error by metric.
        how: what the scores were made with.
    """
    licence = entry.licence.lower()
    about = {
        "license": licence if licence in LICENCES else "other",
        **({} if licence in LICENCES else {"license_name": entry.licence}),
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", entry.model],
    }
    head = "\n".join(f"{key}: {json.dumps(value)}" for key, value in about.items())
    rows = "\n".join(f"| `{metric}` | {value:.4g} ± {error:.2g} |" for metric, (value, error) in scores.items())
    return f"""---
{head}
---
# {entry.model}, trained on {entry.data}

![Images of the first latents of seed 0; none was selected]({SAMPLES})

A generator of {entry.channels} x {entry.side} x {entry.side} images. To draw from it, with the suite `gans`:

```sh
gans sample zoo:{PREFIX}{repository}#{name}
```

## Scores

| metric | value ± standard error |
| --- | --- |
{rows}

{how}

## Training

```sh
{entry.command}
```

Commit {entry.commit}. Data: {entry.data}, licence: {entry.data_licence}.
Weights: {entry.licence}, SHA-256 {entry.sha256}.
"""
