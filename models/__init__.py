"""Generative stories, one per file, each a plain Pyro program written in full. They know nothing of
inference.
"""

if __name__ != "ppl_gen.models":
    raise ImportError(
        "import ppl_gen.models, not models: the bare name makes a second copy of every class"
    )

from ppl_gen.models import toy
from ppl_gen.models.ali import ALI, ali
from ppl_gen.models.autoencoder import (
    Autoencoder,
    autoencoder,
    autoencoder_layers,
    classifier,
    conv_autoencoder,
    pca,
    stacked,
    with_prior,
)
from ppl_gen.models.cgan import CGAN, cgan
from ppl_gen.models.classical import (
    CovarianceMixture,
    FactorAnalysis,
    factor_analysis,
    gaussian,
    gaussian_mixture,
    ppca,
)
from ppl_gen.models.conv_cgan import conv_cgan
from ppl_gen.models.conv_cvae import conv_cvae
from ppl_gen.models.conv_vae import conv_vae
from ppl_gen.models.cvae import CVAE, cvae
from ppl_gen.models.cycle_gan import CycleGAN, cycle_gan, translator
from ppl_gen.models.dcgan import dcgan, dcgan_decoder
from ppl_gen.models.draw import DRAW, draw
from ppl_gen.models.gan import GAN, gan
from ppl_gen.models.gmmn import gmmn
from ppl_gen.models.hierarchical import HierarchicalVAE, hierarchical_vae, with_layer_above
from ppl_gen.models.infogan import InfoGAN, infogan
from ppl_gen.models.ss_vae import SemiSupervisedVAE, ss_vae
from ppl_gen.models.stacked_vae import StackedVAE
from ppl_gen.models.text_vae import LanguageModel, TextVAE, language_model, text_vae
from ppl_gen.models.vae import VAE, vae

__all__ = [
    "ALI",
    "CGAN",
    "CVAE",
    "DRAW",
    "GAN",
    "VAE",
    "Autoencoder",
    "CovarianceMixture",
    "CycleGAN",
    "FactorAnalysis",
    "HierarchicalVAE",
    "InfoGAN",
    "LanguageModel",
    "SemiSupervisedVAE",
    "StackedVAE",
    "TextVAE",
    "ali",
    "autoencoder",
    "autoencoder_layers",
    "cgan",
    "classifier",
    "conv_autoencoder",
    "conv_cgan",
    "conv_cvae",
    "conv_vae",
    "cvae",
    "cycle_gan",
    "dcgan",
    "dcgan_decoder",
    "draw",
    "factor_analysis",
    "gan",
    "gaussian",
    "gaussian_mixture",
    "gmmn",
    "hierarchical_vae",
    "infogan",
    "language_model",
    "pca",
    "ppca",
    "ss_vae",
    "stacked",
    "text_vae",
    "toy",
    "translator",
    "vae",
    "with_layer_above",
    "with_prior",
]
