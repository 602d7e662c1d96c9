"""A generator alone, in a format that loads without this package: torch.export's `.pt2`, or ONNX.

Inputs: `z`, float32 (n, latent), standard normal; and `labels`, int64 (n,), if it is conditional. Output: images,
float32 (n, channels, side, side), in [-1, 1].
"""

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gans.errors import InputError, first_line
from gans.models.inputs import GeneratorInput

TOLERANCE = 1e-5  # of images in [-1, 1]
ABOUT = "about"  # the description in the file: shape, settings, names and shares of classes


@torch.no_grad()
def export(
    generator: nn.Module, about: Mapping[str, Any], code: GeneratorInput, suffix: str
) -> tuple[bytes, float]:
    """The content of a `.pt2` or `.onnx` file, and how far its images of `code` are from the generator's, at most.

    The generator is in eval mode on the CPU. An InputError if libraries are missing, the network cannot be
    exported, or images differ by more than `TOLERANCE`.
    """
    rows = {0: torch.export.Dim("n")}
    few = tuple(code[:2])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries about themselves
            program = torch.export.export(generator, few, dynamic_shapes=tuple(rows for _ in few))
            content, images = (as_onnx if suffix == ".onnx" else as_torch)(program, json.dumps(about), code)
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"this generator cannot be exported as {suffix}: {first_line(error)}") from error
    apart = float((images - generator(*code)).abs().max())
    if not apart <= TOLERANCE:
        raise InputError(f"images of the exported {suffix} differ by {apart:.2g}, more than {TOLERANCE:g}")
    return content, apart


def as_torch(program: torch.export.ExportedProgram, about: str, code: GeneratorInput) -> tuple[bytes, Tensor]:
    """A `.pt2`, and its images."""
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={ABOUT: about})
    return content.getvalue(), torch.export.load(io.BytesIO(content.getvalue())).module()(*code)


def as_onnx(program: torch.export.ExportedProgram, about: str, code: GeneratorInput) -> tuple[bytes, Tensor]:
    """An ONNX model, and its images by onnxruntime."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise InputError(
            "ONNX needs two libraries, pip install onnxscript onnxruntime; a .pt2 needs none"
        ) from None
    names = ("z", "labels")[: len(tuple(code))]
    made = torch.onnx.export(program, dynamo=True, input_names=names, output_names=["images"], verbose=False)
    assert made is not None
    made.model.metadata_props[ABOUT] = about
    content = made.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (images,) = session.run(None, {name: part.numpy() for name, part in zip(names, code, strict=True)})
    return content, torch.from_numpy(images)
