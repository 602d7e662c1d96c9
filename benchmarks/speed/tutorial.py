"""Training as tutorials write it, to be timed beside ours; every habit of theirs is kept on purpose.

After "DCGAN Tutorial" in the PyTorch documentation (N. Inkawhich): images go through Pillow and torchvision's
transforms in the workers of a `DataLoader`; the discriminator's losses on real and generated images are
propagated apart; the generator's loss is propagated through the discriminator's weights too, whose gradients are
thrown away; losses and mean outputs are read with `.item()` in every step and printed now and then. Float32,
torch's own layers, their default layout in memory. Networks, batch, loss and optimiser settings are ours.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import TextIO

import torch
from PIL import Image
from torch import Tensor, nn, optim
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from torch.utils.data import DataLoader, Dataset

from benchmarks.speed.workloads import Workload
from gans.config import Experiment, MDGANConfig
from gans.models import build_discriminator, build_generator
from gans.models.layers import Double, Fold, Halve, ToPixels, Unfold
from gans.registry import LOSSES
from gans.training.two_player import Loss

WORKERS = 2


class Pictures(Dataset):
    """Images in memory that are opened one by one, as torchvision's CIFAR10 does."""

    def __init__(self, images: Tensor) -> None:
        from torchvision import transforms

        side, channels = images.shape[-1], images.shape[1]
        self.arrays = images.permute(0, 2, 3, 1).squeeze(-1).numpy()
        half = (0.5,) * channels
        self.transform = transforms.Compose(
            [
                transforms.Resize(side),
                transforms.CenterCrop(side),
                transforms.ToTensor(),
                transforms.Normalize(half, half),
            ]
        )

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.arrays[index]))


def plain(network: nn.Module) -> nn.Module:
    """The network with torch's own layers in place of our faster ones: the same weights, the same function."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, Double | Fold | Halve | ToPixels | Unfold):
                setattr(parent, name, torchs(layer))
            elif is_parametrized(layer, "weight"):
                plain_spectral_norm(layer)
    return network


def torchs(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Torch's layer with the weights of ours."""
    kind = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.ConvTranspose2d
    kernel, bias = layer.kernel_size, layer.bias is not None
    theirs = kind(layer.in_channels, layer.out_channels, kernel, layer.stride, layer.padding, bias=bias)  # type: ignore[arg-type]
    theirs.load_state_dict(layer.state_dict())
    return theirs


def plain_spectral_norm(layer: nn.Module) -> None:
    """Torch's spectral norm in place of ours, which takes fewer launches on a GPU; the vectors stay."""
    state = layer.state_dict()
    remove_parametrizations(layer, "weight", leave_parametrized=False)
    spectral_norm(layer)
    layer.load_state_dict(state)


@dataclass(frozen=True)
class Learner:
    """A network and its optimiser."""

    net: nn.Module
    optimizer: optim.Optimizer

    @classmethod
    def of(cls, net: nn.Module, device: torch.device, lr: float, e: Experiment) -> Learner:
        net = plain(net).to(device)
        betas = (e.optimizer.beta1, e.optimizer.beta2)
        return cls(net, optim.Adam(net.parameters(), lr=lr, betas=betas))


class Tutorial:
    """The trainer: one generator, and one discriminator (or MD-GAN's N, each on its part of the batch)."""

    def __init__(self, workload: Workload, device: torch.device, log: TextIO) -> None:
        e = workload.experiment
        self.device, self.log, self.batch, self.latent = device, log, e.batch, e.networks.latent
        players = e.update.workers if isinstance(e.update, MDGANConfig) else 1
        self.g = Learner.of(build_generator(workload.shape, e.networks, e.seed), device, e.optimizer.lr_g, e)
        self.ds = [
            Learner.of(build_discriminator(workload.shape, e.networks, e.seed, n), device, e.optimizer.lr_d, e)
            for n in range(players)
        ]
        self.loss: Loss = LOSSES[e.loss.name]
        self.penalty = e.loss.penalty
        loader = DataLoader(
            Pictures(workload.data.train),
            batch_size=self.batch * players,
            shuffle=True,
            num_workers=WORKERS,
            drop_last=True,
            pin_memory=device.type == "cuda",
        )
        self.stream = endless(loader)
        self.i = 0
        self.d_losses: list[float] = []
        self.g_losses: list[float] = []

    def step(self) -> None:
        real = next(self.stream).to(self.device)
        noise = torch.randn(self.batch, self.latent, device=self.device)
        fake = self.g.net(noise)
        parts = real.split(self.batch)
        learned = [self.learn(d, part, fake.detach()) for d, part in zip(self.ds, parts, strict=True)]
        # (2) the generator, through discriminators that have just learned
        self.g.optimizer.zero_grad()
        outputs = [d.net(fake) for d in self.ds]
        loss = torch.stack([self.loss.g_loss(output) for output in outputs]).mean()
        loss.backward()
        self.g.optimizer.step()
        after = outputs[0].sigmoid().mean().item()
        error, x, before = learned[0]
        if self.i % 50 == 0:
            print(
                f"[{self.i}] D {error:.4f} G {loss.item():.4f} D(x) {x:.4f} {before:.4f}/{after:.4f}",
                file=self.log,
            )
        self.d_losses.append(error)
        self.g_losses.append(loss.item())
        self.i += 1

    def learn(self, d: Learner, real: Tensor, fake: Tensor) -> tuple[float, float, float]:
        """(1) a discriminator: the real batch, then the generated one. Loss, D(x), D(G(z))."""
        d.net.zero_grad()
        on_real, on_fake = d.net(real), d.net(fake)
        if self.loss.penalised:
            error = self.loss.d_loss(on_real, on_fake) + self.penalty * self.gradient_penalty(d.net, real, fake)
            error.backward()
        else:
            # each loss is a sum of a part of the real and a part of the generated logits
            nothing = torch.zeros_like(on_real)
            of_real = self.loss.d_loss(on_real, nothing)
            of_real.backward()
            of_fake = self.loss.d_loss(nothing, on_fake)
            of_fake.backward()
            error = of_real + of_fake - self.loss.d_loss(nothing, nothing)
        d.optimizer.step()
        return error.item(), on_real.sigmoid().mean().item(), on_fake.sigmoid().mean().item()

    @staticmethod
    def gradient_penalty(net: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        alpha = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
        output = net(between)
        gradients = torch.autograd.grad(
            outputs=output,
            inputs=between,
            grad_outputs=torch.ones_like(output),
            create_graph=True,
            retain_graph=True,
        )[0]
        return ((gradients.view(len(real), -1).norm(2, dim=1) - 1) ** 2).mean()


def endless(loader: DataLoader) -> Iterator[Tensor]:
    """Epoch after epoch; the workers start anew in each, as in the tutorial."""
    for _epoch in count():
        yield from loader


def seeded() -> None:
    """As the tutorial does at its top."""
    random.seed(999)
    torch.manual_seed(999)
