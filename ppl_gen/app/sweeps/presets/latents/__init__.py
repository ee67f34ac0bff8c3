"""Presets of latents: manifolds, overlaps, neighbours, what is missing, what is strange."""
