"""Training as tutorials write it, to be timed with ours; every habit of theirs is kept on purpose.

After "DCGAN Tutorial" in the PyTorch documentation (N. Inkawhich): images go through Pillow and torchvision's
transforms in the workers of a `DataLoader`; the discriminator's losses on real and generated images are
propagated apart; the generator's loss is propagated through the discriminator's weights too, whose gradients are
thrown away; losses and mean outputs are read with `.item()` in every step and printed now and then. Float32,
torch's own layers, their default layout in memory. Networks, batch, loss and optimiser settings are ours.
"""

import random
from collections.abc import Iterator
from typing import TextIO

import torch
from PIL import Image
from torch import Tensor, nn, optim
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.speed.workloads import Workload
from gans.compute.convolutions import Double, Halve
from gans.config import MDGANConfig
from gans.models import build_discriminator, build_generator
from gans.models.layers import BatchNorm, Fold, ToPixels, Unfold
from gans.registry import LOSSES
from gans.training.two_player import Loss

TORCHS = (nn.BatchNorm2d, nn.Conv2d, nn.ConvTranspose2d)


class Pictures(Dataset):
    """Images in memory that are opened one by one, as torchvision's CIFAR10 does."""

    def __init__(self, images: Tensor) -> None:
        side, half = images.shape[-1], (0.5,) * images.shape[1]
        self.arrays = images.permute(0, 2, 3, 1).squeeze(-1).numpy()
        crop = [transforms.Resize(side), transforms.CenterCrop(side)]
        self.transform = transforms.Compose([*crop, transforms.ToTensor(), transforms.Normalize(half, half)])

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.arrays[index]))


def plain(network: nn.Module) -> nn.Module:
    """The network with torch's own layers in place of our faster ones: the same weights, the same function."""
    for layer in list(network.modules()):
        if isinstance(layer, BatchNorm | Double | Fold | Halve | ToPixels | Unfold):
            layer.__class__ = next(kind for kind in TORCHS if isinstance(layer, kind))  # type: ignore[assignment]
        elif is_parametrized(layer, "weight"):
            plain_spectral_norm(layer)
    return network


def plain_spectral_norm(layer: nn.Module) -> None:
    """Torch's spectral norm in place of ours, which takes fewer launches on a GPU; the vectors stay."""
    state = layer.state_dict()
    remove_parametrizations(layer, "weight", leave_parametrized=False)
    spectral_norm(layer)
    layer.load_state_dict(state)


class Tutorial:
    """The trainer: one generator, and one discriminator (or MD-GAN's N, each on its part of the batch)."""

    def __init__(self, workload: Workload, device: torch.device, log: TextIO) -> None:
        e = workload.experiment
        self.device, self.log, self.batch, self.latent = device, log, e.batch, e.networks.latent
        self.loss: Loss = LOSSES[e.loss.name]
        workers = e.update.workers if isinstance(e.update, MDGANConfig) else 1
        seeds = range(workers)
        self.g = plain(build_generator(workload.shape, e.networks, e.seed)).to(device)
        self.ds = [plain(build_discriminator(workload.shape, e.networks, e.seed, n)).to(device) for n in seeds]
        betas = (e.optimizer.beta1, e.optimizer.beta2)
        self.adam_g = optim.Adam(self.g.parameters(), lr=e.optimizer.lr_g, betas=betas)
        self.adam_ds = [optim.Adam(d.parameters(), lr=e.optimizer.lr_d, betas=betas) for d in self.ds]
        self.loader = DataLoader(
            Pictures(workload.data.train),
            batch_size=self.batch * workers,
            shuffle=True,
            num_workers=2,
            drop_last=True,
            pin_memory=device.type == "cuda",
        )
        self.stream = self.batches()
        self.i = 0

    def batches(self) -> Iterator[Tensor]:
        """Epoch after epoch; the loader starts its workers again in each, as in the tutorial."""
        while True:
            yield from self.loader

    def step(self) -> None:
        real = next(self.stream).to(self.device)
        fake = self.g(torch.randn(self.batch, self.latent, device=self.device))
        parts = real.split(self.batch)
        learned = [self.learn(n, part, fake.detach()) for n, part in enumerate(parts)]
        # (2) the generator, through discriminators that have just learned
        self.adam_g.zero_grad()
        outputs = [d(fake) for d in self.ds]
        loss = torch.stack([self.loss.g_loss(output) for output in outputs]).mean()
        loss.backward()
        self.adam_g.step()
        error, x, before = learned[0]
        after, g_error = outputs[0].sigmoid().mean().item(), loss.item()
        if self.i % 50 == 0:
            means = f"D(x) {x:.4f} {before:.4f}/{after:.4f}"
            print(f"[{self.i}] D {error:.4f} G {g_error:.4f} {means}", file=self.log)
        self.i += 1

    def learn(self, n: int, real: Tensor, fake: Tensor) -> tuple[float, float, float]:
        """(1) a discriminator: the real batch, then the generated one. Loss, D(x), D(G(z))."""
        d = self.ds[n]
        d.zero_grad()
        on_real, on_fake = d(real), d(fake)
        # each loss is a sum of a part of the real and a part of the generated logits
        nothing = torch.zeros_like(on_real)
        of_real = self.loss.d_loss(on_real, nothing)
        of_real.backward()
        of_fake = self.loss.d_loss(nothing, on_fake)
        of_fake.backward()
        error = of_real + of_fake - self.loss.d_loss(nothing, nothing)
        self.adam_ds[n].step()
        return error.item(), on_real.sigmoid().mean().item(), on_fake.sigmoid().mean().item()


def seed() -> None:
    """As the tutorial does at its top."""
    random.seed(999)
    torch.manual_seed(999)
