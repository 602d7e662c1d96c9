"""What a generator draws from: latents, labels, and how they are distributed."""

from dataclasses import replace

import pytest
import torch

from gans import seeds
from gans.config import experiment
from gans.errors import InputError
from gans.models import shape_of
from gans.models.inputs import GeneratorInput, Labels, Prior
from gans.registry import MODELS
from tests.conftest import networks

PRIOR = Prior(3, ("cat", "dog", "owl"), (0.5, 0.0, 0.5))


def test_an_input_is_what_a_generator_is_called_with() -> None:
    z, labels = torch.randn(5, 3), torch.tensor([4, 3, 2, 1, 0])
    plain, given = GeneratorInput(z), GeneratorInput(z, labels)
    assert [len(tuple(one)) for one in (plain, given)] == [1, 2]
    assert len(given) == 5
    assert [part.tolist() for part in given[1:3]] == [z[1:3].tolist(), [3, 2]]
    assert [part.labels.tolist() for part in given.split(2)] == [[4, 3], [2, 1], [0]]
    assert all(part.labels is None for part in plain.split(2))
    assert torch.equal(GeneratorInput.joined(given.split(2)).labels, labels)
    assert torch.equal(GeneratorInput.joined(plain.split(2)).z, z)
    assert given.to("meta").labels.is_meta


def test_labels_are_drawn_by_their_shares() -> None:
    """Chi-square of 30,000 draws with 2 degrees of freedom: 0.1 % level 13.8; a class without images never."""
    drawn = Labels((3, 0, 6, 1)).draw(30_000, seeds.generator(0))
    counts = torch.bincount(drawn, minlength=4)
    assert counts[1] == 0
    expected = torch.tensor([9_000.0, 18_000, 3_000])
    assert ((counts[[0, 2, 3]] - expected) ** 2 / expected).sum() < 13.8
    assert torch.equal(Labels((3, 0, 6, 1)).draw(7, seeds.generator(0)), drawn[:7])
    assert Labels((0, 1, 0)).draw(100, seeds.generator(0)).unique().tolist() == [1]


def test_fixed_inputs_have_the_latents_of_before_and_labels_beside_them() -> None:
    given, plain = PRIOR.sample(50, 2, "purpose"), Prior(3).sample(50, 2, "purpose")
    assert torch.equal(given.z, seeds.normal_rows(50, 3, 2, "purpose"))
    assert torch.equal(plain.z, given.z)
    assert plain.labels is None
    assert given.labels.unique().tolist() == [0, 2]
    assert torch.equal(PRIOR.sample(9, 2, "purpose").labels, given.labels[:9])
    assert not torch.equal(PRIOR.sample(50, 2, "another").labels, given.labels)


def test_the_prior_of_a_file() -> None:
    for prior in (PRIOR, Prior(3)):
        assert Prior.from_about({"networks": {"latent": 3}, **prior.about()}) == prior
    assert Prior(3).about() == {}


@pytest.mark.parametrize(("how", "expected"), [("data", (0.5, 0.25, 0.25)), ("uniform", (1 / 3, 1 / 3, 1 / 3))])
def test_the_prior_of_an_experiment(how, expected, blobs) -> None:
    data = replace(blobs(n=8, classes=3), train_labels=torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]))
    table = {"networks": {"latent": 3, "conditional": True}, "labels": how}
    assert Prior.of(experiment(table), data) == Prior(3, data.classes, expected)
    assert Prior.of(experiment({"networks": {"latent": 3}}), data) == Prior(3)


def test_one_class_is_drawn_by_name_or_number() -> None:
    z = torch.randn(4, 3)
    assert PRIOR.of_class(z).labels.tolist() == [0] * 4
    assert PRIOR.of_class(z, "owl").labels.tolist() == PRIOR.of_class(z, 2).labels.tolist() == [2] * 4
    assert Prior(3).of_class(z).labels is None
    assert replace(PRIOR, shares=(0.0, 0.5, 0.5)).of_class(z).labels.tolist() == [1] * 4
    refused = {(PRIOR, "bird"): "bird", (PRIOR, "dog"): "class 'dog' had no images in training"}
    refused |= {(PRIOR, 3): "class 3", (Prior(3), "owl"): "no classes"}
    for (prior, wanted), says in refused.items():
        with pytest.raises(InputError, match=says):
            prior.of_class(z, wanted)


def test_what_cannot_be_conditional_is_said_in_a_line(blobs, monkeypatch) -> None:
    config = networks(conditional=True)
    with pytest.raises(InputError, match="need labelled images, which blobs has not; sort them"):
        shape_of(blobs(), config)
    with pytest.raises(InputError, match="the training images of blobs are of one;"):
        shape_of(replace(blobs(classes=3), train_labels=torch.zeros(60, dtype=torch.int64)), config)
    monkeypatch.setattr("gans.models.dcgan.DCGAN", replace(MODELS["dcgan"], conditional=None))
    with pytest.raises(InputError, match="model dcgan has no conditional form"):
        shape_of(blobs(classes=3), config)
