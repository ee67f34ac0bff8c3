"""Generative stories, one per file, each a plain Pyro program written in full. They know nothing of inference."""

if __name__ != "ppl_gen.models":
    raise ImportError("import ppl_gen.models, not models: the bare name makes a second copy of every class")

from ppl_gen.models import toy
from ppl_gen.models.conv_vae import conv_vae
from ppl_gen.models.cvae import CVAE, cvae
from ppl_gen.models.vae import VAE, vae

__all__ = ["CVAE", "VAE", "conv_vae", "cvae", "toy", "vae"]
