"""Presets of VAEs as the lectures fit them: curves, repetitions, dimensions, weights of the KL."""
