"""Samples held against data, without a likelihood."""

from ppl_gen.inference.samples.vectors import as_vectors

__all__ = ["as_vectors"]
