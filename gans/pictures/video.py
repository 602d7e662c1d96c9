"""Animations as files: GIF by Pillow, MP4 by FFmpeg. The same frames give the same bytes."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gans.errors import InputError
from gans.files import atomically

COLOURS = 256  # a GIF has no more
X264 = "threads=1:rc-lookahead=0:sync-lookahead=0:mbtree=0:weightp=0"
PALETTE_SIDE = 512  # pixels a side of the picture that a palette is made from


def gif(frames: Sequence[Image.Image], milliseconds: Sequence[int], colours: int = COLOURS) -> bytes:
    """An endless GIF of frames of one size and mode, `L` or `RGB`, each shown for so many milliseconds.

    A GIF counts in hundredths of a second. Neighbours that are the same become one that stays longer. All frames
    together have at most so many `colours`; fewer make a smaller file.
    """
    indexed = _greys(frames, colours) if frames[0].mode == "L" else _indexed(frames, colours)
    file = io.BytesIO()
    indexed[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=list(milliseconds),
        loop=0,
        optimize=True,
        disposal=1,  # a frame is drawn over the one before, so only what has changed needs storing
    )
    return file.getvalue()


def _greys(frames: Sequence[Image.Image], levels: int) -> list[Image.Image]:
    """Rounded to evenly spaced greys, black and white among them."""
    steps = min(levels, COLOURS) - 1
    table = [round(round(grey / 255 * steps) * 255 / steps) for grey in range(256)]
    return [frame.point(table) for frame in frames]


def _indexed(frames: Sequence[Image.Image], colours: int) -> list[Image.Image]:
    """All on one palette: a palette for each frame would flicker."""
    width, height = frames[0].size
    several = frames[:: max(1, len(frames) // 8)]
    together = Image.new("RGB", (width, height * len(several)))
    for place, frame in enumerate(several):
        together.paste(frame, (0, place * height))
    together.thumbnail((PALETTE_SIDE, PALETTE_SIDE * len(several)), Image.Resampling.NEAREST)
    palette = together.quantize(min(colours, COLOURS), method=Image.Quantize.MEDIANCUT)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def save_mp4(frames: Sequence[Image.Image], per_second: int, path: Path) -> None:
    """Write an H.264 video that browsers and slides play, whole or not at all; an InputError without PyAV.

    A last odd row or column of pixels is repeated, since the format needs even sides.
    """
    width, height = frames[0].size
    missing = ((0, height % 2), (0, width % 2), (0, 0))
    even = [np.pad(np.asarray(frame.convert("RGB")), missing, mode="edge") for frame in frames]
    atomically(path, lambda temporary: _encode(even, per_second, temporary))


def _encode(frames: Sequence[np.ndarray], per_second: int, path: Path) -> None:
    try:
        import av
    except ImportError:
        raise InputError("MP4 needs PyAV (`pip install av`); name a .gif in its place") from None
    # no date and no library version in the file, and x264 without threads and without its look-ahead, whose
    # assembly reads uninitialised memory: the same frames would give other bytes
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as file:
        stream = file.add_stream("libx264", rate=per_second, options={"crf": "18", "x264-params": X264})
        stream.height, stream.width, _ = frames[0].shape
        stream.pix_fmt = "yuv420p"
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
