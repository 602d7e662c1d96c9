"""Generative adversarial networks: the networks, their training, scoring and tracking."""

from gans.home import take_one

take_one()  # before any library looks for one
