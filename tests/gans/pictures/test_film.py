"""Films of training and animations as files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gans.pictures import film, grids, lettering, video


def track(folder: Path, moments: dict[float, int], title: str = "dcgan/digits/0") -> film.Track:
    """A training whose grids are 64 images of one grey level, by moment."""
    paths = {kimg: folder / title / f"{kimg}.png" for kimg in moments}
    for kimg, path in paths.items():
        images = torch.full((64, 1, 16, 16), moments[kimg], dtype=torch.uint8)
        grids.save_picture(grids.picture(images), path)
    return film.Track(title, paths)


def read(path: Path) -> tuple[list[Image.Image], list[int]]:
    """The frames of a GIF, and their milliseconds."""
    with Image.open(path) as gif:
        found, durations = [], []
        for place in range(gif.n_frames):
            gif.seek(place)
            found.append(gif.convert("RGB"))
            durations.append(gif.info["duration"])
        return found, durations


# --- GIF and MP4


def test_an_mp4_is_h264_with_all_frames_and_the_same_bytes_again(tmp_path):
    import av

    drawn = []
    for place in range(12):
        pixels = np.full((33, 41, 3), 40, dtype=np.uint8)
        pixels[5 + place : 15 + place, 10:20] = (220, 60, 60)
        drawn.append(Image.fromarray(pixels))
    video.save_mp4(drawn, 6, tmp_path / "a.mp4")
    video.save_mp4(drawn, 6, tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 6
    assert [frame.shape for frame in decoded] == [(34, 42, 3)] * 12  # odd sides grow by one
    for place, frame in enumerate(decoded):
        assert np.abs(frame[:33, :41].astype(int) - np.asarray(drawn[place])).mean() < 4


# --- films


def test_a_film_holds_every_grid_in_order_and_the_last_one_longer(tmp_path):
    own = track(tmp_path, {0.0: 0, 5.0: 80, 10.0: 160, 20.0: 240})
    for name in ("film.gif", "again.gif"):
        assert film.save_film([own], 16, tmp_path / name)
    assert (tmp_path / "film.gif").read_bytes() == (tmp_path / "again.gif").read_bytes()
    drawn, durations = read(tmp_path / "film.gif")
    assert durations == [400, 400, 400, 2000]
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.info["loop"] == 0  # for ever
    levels = [frame.getpixel((frame.width // 2 + 5, frame.height // 2 + 5))[0] for frame in drawn]
    assert levels == sorted(levels)
    assert np.allclose(levels, [0, 80, 160, 240], atol=255 / 63)  # 64 greys


def test_trainings_of_other_lengths_keep_step_by_their_share(tmp_path):
    long = track(tmp_path, {0.0: 0, 40.0: 60, 80.0: 120, 160.0: 240}, "gan")
    short = track(tmp_path, {0.0: 0, 10.0: 120, 20.0: 240}, "dcgan")
    film.save_film([long, short], 16, tmp_path / "film.gif")
    frames, _ = read(tmp_path / "film.gif")
    columns, scale = film.layout(2, 16, 8)
    wide = scale * (17 * columns + 1)
    assert frames[0].width == 2 * (wide + film.GAP) + film.GAP
    middle = [film.GAP + place * (wide + film.GAP) + scale * 20 for place in range(2)]
    levels = [
        [frame.getpixel((x, 2 * film.GAP + lettering.TEXT + scale * 20))[0] for x in middle] for frame in frames
    ]
    # shares 0, 1/3, 2/3, 1: at 53 thousand images the nearest grid is that of 40, at 6.7 that of 10
    assert np.allclose(levels, [[0, 0], [60, 120], [120, 120], [240, 240]], atol=255 / 63)


def test_a_film_of_noise_stays_below_its_limit(tmp_path):
    drawn = {}
    for step in range(3):
        rng = torch.Generator().manual_seed(step)
        images = torch.randint(0, 256, (64, 3, 32, 32), generator=rng, dtype=torch.uint8)
        drawn[float(step)] = tmp_path / f"{step}.png"
        grids.picture(images).save(drawn[float(step)], compress_level=1)
    assert film.save_film([film.Track("noise", drawn)], 32, tmp_path / "film.gif", 72_000)
    assert (tmp_path / "film.gif").stat().st_size <= 72_000
    assert len(read(tmp_path / "film.gif")[0]) == 3


def test_there_is_no_film_without_two_grids_of_the_right_size(tmp_path):
    path = tmp_path / "film.gif"
    assert not film.save_film([], 16, path)
    assert not film.save_film([track(tmp_path, {0.0: 0})], 16, path)
    assert not film.save_film([track(tmp_path, {0.0: 0, 1.0: 9})], 20, path)
    assert not path.exists()


# --- words


@pytest.mark.parametrize(
    ("kimg", "room", "words"),
    [
        (0.0, 300, "0 images"),
        (0.096, 300, "96 images"),
        (12.5, 300, "12.5 thousand images"),
        (999.999, 300, "1 million images"),
        (1234.56, 300, "1.23 million images"),
        (1000.0, 80, "1M images"),
        (50.016, 40, "50k"),
    ],
)
def test_captions_are_as_people_write_numbers_and_fit_their_room(kimg, room, words):
    assert film.caption(kimg, room) == words


@pytest.mark.parametrize(
    ("names", "cut"),
    [
        (["dcgan-tuned", "sagan-tuned-long"], ["dcgan-tuned", "sagan-tuned…"]),
        (["standalone-b1000", "standalone-b100", "gan"], ["standa…b1000", "standa…-b100", "gan"]),
        (["batch-one-of-model", "batch-two-of-model"], ["batch-one-o…", "batch-two-o…"]),
        (["my_own_model_with_no_hyphen"], ["my_own_mode…"]),  # one word is no reason to show none of it
    ],
)
def test_names_that_are_cut_do_not_read_alike(names, cut):
    assert list(lettering.brief(names, 12).values()) == cut
