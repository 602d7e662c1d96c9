import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gans.config import MDGANConfig
from gans.data import datasets
from gans.data.shards import by_class, deal, dirichlet, histogram
from gans.errors import InputError
from gans.pictures.panels import draw_shards
from gans.runs.cell import check_fit


def labels_of(*counts: int) -> Tensor:
    """So many images of class 0, 1, ..., mixed up."""
    ordered = torch.cat([torch.full((count,), c) for c, count in enumerate(counts)])
    return ordered[torch.randperm(len(ordered), generator=torch.Generator().manual_seed(9))]


def update(workers: int, shards: str, alpha: float = 1.0) -> MDGANConfig:
    return MDGANConfig(rule="mdgan", workers=workers, shards=shards, alpha=alpha)


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "classes"])
@pytest.mark.parametrize(
    ("counts", "workers"), [((40, 60, 20), 1), ((40, 61, 20), 3), ((30,) * 10, 4), ((50, 70), 9)]
)
def test_shards_are_disjoint_and_cover_the_data(counts: tuple[int, ...], workers: int, kind: str) -> None:
    labels = labels_of(*counts)
    parts = deal(update(workers, kind), len(labels), labels, seed=3)
    assert len(parts) == workers
    assert sorted(i for part in parts for i in part.tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "classes"])
def test_shards_are_a_function_of_the_seed(kind: str) -> None:
    labels = labels_of(*(30,) * 10)
    first, again, other = (deal(update(5, kind), 300, labels, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(torch.cat(first), torch.cat(other))


def test_fewer_workers_than_classes_get_every_nth_class() -> None:
    labels = labels_of(10, 20, 30, 40, 50)
    found = histogram(by_class(labels, 2, seed=0), labels, 5)
    assert found.tolist() == [[10, 0, 30, 0, 50], [0, 20, 0, 40, 0]]


def test_more_workers_than_classes_share_the_images_of_a_class() -> None:
    labels = labels_of(31, 40)
    found = histogram(by_class(labels, 5, seed=0), labels, 2)
    # workers 0, 2, 4 hold class 0 and workers 1, 3 class 1
    assert found.tolist() == [[11, 0], [0, 20], [10, 0], [0, 20], [10, 0]]


def skew(parts: list[Tensor], labels: Tensor, classes: int) -> float:
    """Mean total variation distance between a worker's mix of classes and the data's."""
    found = histogram(parts, labels, classes).double()
    mixes, whole = found / found.sum(dim=1, keepdim=True), found.sum(dim=0) / found.sum()
    return float((mixes - whole).abs().sum(dim=1).mean() / 2)


def test_dirichlet_shards_are_even_in_size_and_the_more_skewed_the_smaller_alpha() -> None:
    labels = labels_of(*(120,) * 10)
    found = []
    for alpha in (0.01, 3.0, 30.0, 1e6):
        parts = dirichlet(labels, 8, alpha, seed=0)
        assert {len(part) for part in parts} == {150}
        found.append(skew(parts, labels, 10))
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.6  # one class each would be 0.9, were there 150 images of one
    assert found[-1] < 0.12  # i.i.d. draws of 150 from 10 classes


# refusals


@pytest.mark.parametrize("kind", ["dirichlet", "classes"])
@pytest.mark.parametrize("rule", ["mdgan", "fl-gan"])
def test_a_skew_of_unlabelled_images_is_refused(rule: str, kind: str, tiny, blobs) -> None:
    made = tiny({"update": {"rule": rule, "workers": 2, "shards": kind}})
    with pytest.raises(InputError, match=f'update.shards = "{kind}" needs labelled images; .* folder per class'):
        check_fit(made, blobs())


@pytest.mark.parametrize("rule", ["mdgan", "fl-gan"])
def test_shards_smaller_than_a_batch_are_refused(rule: str, tiny, blobs) -> None:
    for workers, fits in ((7, True), (8, False), (100, False), (65_536, False)):
        made = tiny({"update": {"rule": rule, "workers": workers}}, batch=8)
        if fits:
            check_fit(made, blobs(n=60))
            continue
        with pytest.raises(
            InputError, match=f"workers = {workers} leaves shards of {60 // workers} images, fewer"
        ):
            check_fit(made, blobs(n=60))


def test_the_smallest_class_counts_where_shards_are_classes(tiny, blobs) -> None:
    images = dataclasses.replace(blobs(n=60), train_labels=labels_of(55, 5), classes=("a", "b"))
    made = tiny({"update": {"rule": "mdgan", "workers": 2, "shards": "classes"}}, batch=8)
    with pytest.raises(InputError, match="workers = 2 leaves shards of 5 images, fewer than batch = 8"):
        check_fit(made, images)


def test_the_picture_shows_how_many_images_of_each_class_each_worker_holds(tmp_path) -> None:
    assert draw_shards(update(5, "classes"), datasets.load("digits"), 0, tmp_path / "shards.png")
    with Image.open(tmp_path / "shards.png") as picture:
        shades = np.asarray(picture.convert("L"))
    assert (shades == 255).mean() > 0.3  # empty cells are white
    assert shades.min() <= 5  # the fullest is black
