"""What tests of scores share."""

from torch import Tensor
from torch.utils.data import Dataset


class Bare(Dataset):
    """Images as torch-fidelity wants them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]
