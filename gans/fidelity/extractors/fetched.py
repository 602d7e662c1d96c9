"""Weights that others publish: where the files lie, downloading them, and whether they are the published ones."""

from __future__ import annotations

import http.client
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.hub

from gans.errors import InputError, first_line
from gans.fidelity.extractors.cards import sha256
from gans.files import expand

log = logging.getLogger("gans")


@dataclass(frozen=True)
class Fetched:
    """A published file of weights.

    Attributes:
        of: whose weights, for people.
        url: where it is published.
        sha256: of the published file.
        variable: of the environment that may name a file in its place.
        called: what scores by the published file, and by no other, are called.
        name: of the file in torch hub's cache; that of the address if empty.
    """

    of: str
    url: str
    sha256: str
    variable: str
    called: str
    name: str = ""

    @property
    def cached(self) -> Path:
        """Where torch hub keeps it."""
        return Path(torch.hub.get_dir(), "checkpoints", self.name or self.url.rsplit("/", 1)[-1])

    def file(self, given: str | Path | None = None) -> Path:
        """The file: `given`, else the variable's, else the cached one, which is downloaded if there is none.

        Raises:
            InputError: it is missing or unobtainable.
        """
        if given := given or os.environ.get(self.variable):
            path = expand(given)
            if path.is_file():
                return path
            raise InputError(
                f"{self.of} weights: {path} is not a file; correct {self.variable}, or unset it to download them"
            )
        if not self.cached.is_file():
            self._download()
        return self.cached

    def _download(self) -> None:
        try:
            self.cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(self.cached), hash_prefix=self.sha256, progress=False)
        # URLError and time-outs are OSErrors; a wrong hash is a RuntimeError
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise InputError(
                f"{self.of} weights: cannot download {self.url} ({error}); fetch it elsewhere and set "
                f"{self.variable} to the file, or choose a data set's own extractor"
            ) from error

    def known(self, path: Path, load: Callable[[Path], object]) -> tuple[str, bool]:
        """The hash of a file, and whether it is the published one; another one has to load.

        Raises:
            InputError: it is damaged, or of another network.
        """
        digest = sha256(path)
        if digest == self.sha256:
            return digest, True
        try:
            load(path)
        except Exception as error:  # torch documents no list of what a damaged file raises
            raise InputError(
                f"{self.of} weights: {path} is damaged or holds another network ({first_line(error)}); "
                f"delete it to download it again, or correct {self.variable}"
            ) from error
        log.warning(
            "%s is not the published %s file: its scores are not called %s, and compare only with each other",
            path,
            self.of,
            self.called,
        )
        return digest, False
