"""Trained generators by name: those that ship with this package, and those of a folder or a URL.

    path = zoo.find("dcgan-digits")

A zoo is a folder, or an address on the web, that holds `zoo.toml`: an index of files with hashes, scores and
licences (`Entry`). The environment variable `GANS_ZOO` names one in addition to the shipped one.
"""

from gans.zoo.index import Entry, Zoo, find, named, zoos

__all__ = ["Entry", "Zoo", "find", "named", "zoos"]
