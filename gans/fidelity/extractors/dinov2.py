"""DINOv2 ViT-L/14 (Oquab et al. 2023, 2304.07193), by whose features Stein et al. 2023 (2306.04675) measure.

Images are prepared as by torch-fidelity (`dinov2-vit-l-14`: bilinear to 224x224, ImageNet's mean and deviation);
Stein et al. resize them bicubically. torch-fidelity downloads today's code of the network; here it is
torchvision's with the published weights, so that only weights of a known hash are downloaded.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gans import seeds
from gans.fidelity.extractors.extractor import MEBIBYTE
from gans.fidelity.extractors.published import Published

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, from 0 to 1
SIDE, PATCH, HEAD = 224, 14, 64  # pixels of an image and of a patch; numbers of an attention head
# their names: DINOv2's, torchvision's
BLOCK = {
    "norm1": "ln_1",
    "attn.qkv.": "self_attention.in_proj_",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
SCALED = {"ls1.gamma": "attn.proj", "ls2.gamma": "mlp.fc2"}  # LayerScale, and the layer that it follows


class DINOv2(nn.Module):
    """Features (n, 1024), the class token, of uint8 images of any size; grey ones become three channels."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        state = torch.load(weights, map_location="cpu", weights_only=True)
        with seeds.forked():  # torchvision draws what is then overwritten
            self.network = build(state)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return self.network(prepared(images.expand(-1, 3, -1, -1))), None


def prepared(images: Tensor) -> Tensor:
    """uint8 images (n, 3, height, width) as torch-fidelity hands them to the network, float32 (n, 3, 224, 224)."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
    from torchvision.transforms.functional import normalize

    resized = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(SIDE, SIDE), align_corners=False)
    return normalize(resized, [255 * one for one in MEAN], [255 * one for one in DEVIATION])


def build(state: dict[str, Tensor]) -> nn.Module:
    """torchvision's vision transformer with DINOv2's weights, in eval mode; its size is that of the weights."""
    from torchvision.models.vision_transformer import VisionTransformer

    width = state["cls_token"].shape[-1]
    depth = 1 + max(int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name)))
    hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    network = VisionTransformer(SIDE, PATCH, depth, width // HEAD, width, hidden)
    network.heads = nn.Identity()
    network.load_state_dict(dict(converted(state)))
    return network.requires_grad_(False).eval()


def converted(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """DINOv2's weights under torchvision's names, for images of 224x224.

    LayerScale multiplies what the layer before it gives, channel by channel: it goes into that layer's weights.
    """
    yield "class_token", state["cls_token"]
    yield "conv_proj.weight", state["patch_embed.proj.weight"]
    yield "conv_proj.bias", state["patch_embed.proj.bias"]
    yield "encoder.pos_embedding", positions(state["pos_embed"])
    yield "encoder.ln.weight", state["norm.weight"]
    yield "encoder.ln.bias", state["norm.bias"]
    for name, value in state.items():
        match = re.match(r"blocks\.(\d+)\.(.*)$", name)
        if match is None or match[2] in SCALED:
            continue
        for scale, layer in SCALED.items():
            if match[2].startswith(layer):
                gamma = state[f"blocks.{match[1]}.{scale}"]
                value = value * (gamma[:, None] if value.dim() == 2 else gamma)
        theirs = next(key for key in BLOCK if match[2].startswith(key))
        yield f"encoder.layers.encoder_layer_{match[1]}.{BLOCK[theirs]}{match[2].removeprefix(theirs)}", value


def positions(embedding: Tensor) -> Tensor:
    """The embedding of positions (1, 1 + patches, width), for 16 x 16 patches in place of the trained 37 x 37.

    DINOv2 resizes it by a factor that a tenth of a patch is added to, and its features depend on that.
    """
    count = SIDE // PATCH
    token, patches = embedding[:, :1], embedding[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    grid = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scale = (count + 0.1) / side
    resized = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([token, resized.permute(0, 2, 3, 1).flatten(1, 2)], 1)


DINOV2 = Published(
    name="dinov2",
    title="DINOv2",
    url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    load=DINOv2,
    image_bytes=64 * MEBIBYTE,  # 257 tokens of 4,096 numbers, a few times over
)
