"""Images from latents, and ways through latent space."""
