"""Images from latents, and paths in latent space.

    generator, about = load_generator("runs/train/.../generator.safetensors")
    images = generate(generator, latents.draw(64, about["networks"]["latent"], seed=0))

`gans.runs.find.find_generator` gives the file of a run's folder, or of a run in the tracking store.
"""

from gans.generate import latents
from gans.generate.loading import load_generator
from gans.models.inputs import generate
