"""Pixel ranges and sizes: exact, against the arithmetic they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gans.data import images
from gans.errors import InputError

# Pixels


def test_conversion_round_trip_and_ends():
    levels = torch.arange(256, dtype=torch.uint8)
    pixels = images.to_float(levels)
    assert pixels.dtype == torch.float32 and pixels[0] == -1 and pixels[255] == 1
    assert torch.allclose(pixels, torch.linspace(-1, 1, 256), atol=1e-6)
    assert torch.equal(images.to_uint8(pixels), levels)


def test_to_uint8_rounds_and_clamps():
    # one level is 2 / 255: 0.4 of it rounds down, 0.6 up
    step = 2 / 255
    pixels = torch.tensor([-1 + 0.4 * step, -1 + 0.6 * step, -7.0, 7.0, torch.inf, -torch.inf])
    assert images.to_uint8(pixels).tolist() == [0, 1, 0, 255, 255, 0]
    assert images.to_uint8(torch.tensor([1.0, -1.0], dtype=torch.bfloat16)).tolist() == [255, 0]


def test_conversions_refuse_what_they_would_spoil():
    with pytest.raises(FloatingPointError, match="NaN"):
        images.to_uint8(torch.tensor([0.0, torch.nan]))
    with pytest.raises(TypeError, match="float pixels"):
        images.to_uint8(torch.zeros(1, dtype=torch.uint8))
    with pytest.raises(TypeError, match="uint8"):
        images.to_float(torch.zeros(1))


# Sizes


def test_fit_pads_small_images_exactly():
    pixels = np.random.default_rng(0).integers(1, 256, (28, 28), dtype=np.uint8)
    padded = np.asarray(images.fit(Image.fromarray(pixels), 32))
    assert np.array_equal(padded, np.pad(pixels, 2))
    batch = images.fit_all(torch.from_numpy(pixels)[None, None], 32)
    assert np.array_equal(batch[0, 0].numpy(), padded)


def test_fit_resizes_the_shorter_side_and_crops_the_centre():
    # three equal stripes, 96 x 32: the centre square is the green one and nothing else
    stripes = np.zeros((32, 96, 3), np.uint8)
    for channel in range(3):
        stripes[:, 32 * channel : 32 * (channel + 1), channel] = 200
    fitted = np.asarray(images.fit(Image.fromarray(stripes), 16))
    assert fitted.shape == (16, 16, 3)
    assert fitted[:, 3:-3].reshape(-1, 3).tolist() == [[0, 200, 0]] * (16 * 10)
    whole = Image.fromarray(stripes).resize((48, 16), Image.Resampling.LANCZOS).crop((16, 0, 32, 16))
    assert np.array_equal(fitted, np.asarray(whole))
    square = Image.fromarray(stripes[:, :32])
    assert images.fit(square, 16).tobytes() == square.resize((16, 16), Image.Resampling.LANCZOS).tobytes()


def test_fit_enlarges_where_one_side_is_too_long_without_unrolling_the_strip():
    assert images.fit(Image.new("L", (8, 64), 77), 32).getcolors() == [(32 * 32, 77)]
    assert images.fit(Image.new("L", (1, 5_000_000), 5), 128).getcolors() == [(128 * 128, 5)]


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_sized_image_by_image(channels):
    batch = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, channels, 20, 20), dtype=np.uint8))
    for sized, resample in (
        (images.enlarge_all(batch, 32), Image.Resampling.BILINEAR),
        (images.fit_all(batch, 16), Image.Resampling.LANCZOS),
    ):
        side = sized.shape[-1]
        for before, after in zip(batch.flatten(0, 1), sized.flatten(0, 1), strict=True):  # plane by plane
            alone = Image.fromarray(before.numpy()).resize((side, side), resample)
            assert np.array_equal(after.numpy(), np.asarray(alone))


def test_fit_pads_what_is_too_long_if_asked():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 60, 3), dtype=np.uint8))
    fitted = np.asarray(images.fit(picture, 32, pad=True))
    assert np.array_equal(fitted[8:24], np.asarray(picture.resize((32, 16), Image.Resampling.LANCZOS)))
    assert not fitted[:8].any() and not fitted[24:].any()


@pytest.mark.parametrize("resolution", [8, 17, 20, 0, -16, 4104])
def test_resolution_is_a_multiple_of_8(resolution):
    with pytest.raises(InputError, match="multiple of 8 from 16 to 4096"):
        images.check_resolution(resolution)


def test_a_share_has_every_class_alike_and_lies_within_larger_ones(blobs):
    data = blobs(n=200, classes=4)
    parts = [data.part(share).images.flatten(1).tolist() for share in (0.1, 0.2, 1)]
    assert [len(part) for part in parts] == [20, 40, 200]
    small, large, whole = ({tuple(image) for image in part} for part in parts)
    assert small < large < whole
    assert data.part(0.1).labels.bincount().tolist() == [5, 5, 5, 5]
    for image, label in zip(*vars(data.part(0.1)).values(), strict=True):  # each keeps its own label
        assert label in data.train_labels[(data.train == image).flatten(1).all(dim=1)]
