"""Trained generators by name: those that ship, and those of the zoo that `GANS_ZOO` names, a folder or a URL."""

from gans.zoo.index import Entry, Zoo, find, named, zoos
