"""The latents of a program as one flat vector of unconstrained numbers."""
