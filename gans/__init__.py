"""Generative adversarial networks: the networks, their training, scoring and tracking."""
