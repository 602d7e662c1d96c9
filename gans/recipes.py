"""The named training recipes: each paper's hyperparameters, laid over the defaults of `gans.config`."""

from __future__ import annotations

from typing import Any

RECIPES: dict[str, dict[str, Any]] = {
    # Goodfellow et al. 2014 trained with momentum SGD and maxout; the Adam settings are DCGAN's, as in every
    # reimplementation that works. Widths are those of the MD-GAN paper's fully connected networks.
    "gan": {"networks": {"name": "gan", "latent": 100, "width": 512}},
    # Radford et al. 2015, section 4
    "dcgan": {"networks": {"name": "dcgan", "latent": 100, "width": 128}, "batch": 128},
    "dcgan-nobn": {"networks": {"name": "dcgan-nobn", "latent": 100, "width": 128}, "batch": 128},
    # Zhang et al. 2018, section 5
    "sagan": {
        "networks": {"name": "sagan", "latent": 128, "width": 64},
        "loss": {"name": "hinge"},
        "optimizer": {"lr_g": 1e-4, "lr_d": 4e-4, "beta1": 0.0, "beta2": 0.9},
    },
    # Hardy et al. 2019, section V: b = 10, N = 10, E = 1, k = 1
    "mdgan": {
        "networks": {"name": "dcgan", "latent": 100, "width": 128},
        "batch": 10,
        "update": {"rule": "mdgan", "workers": 10, "batches": 1, "d_steps": 1, "swap_epochs": 1.0},
    },
    # the same paper's baseline: whole GANs, averaged every epoch
    "fl-gan": {
        "networks": {"name": "dcgan", "latent": 100, "width": 128},
        "batch": 10,
        "update": {"rule": "fl-gan", "workers": 10, "d_steps": 1, "average_epochs": 1.0},
    },
}
