"""Priors by name."""

from __future__ import annotations

__all__ = ["PRIORS"]

from typing import TYPE_CHECKING, Any

from ppl_gen.app.parts.part import Part, Setting, table_of

if TYPE_CHECKING:
    from ppl_gen.app.parts.conditioning import Conditioning

_COMPONENTS = 10
_PSEUDO_INPUTS = 500  # those of Tomczak and Welling on MNIST
_CODE = 32  # numbers that a flow is told of a context


def _standard_normal(setting: Setting) -> Any:
    from ppl_gen.priors import StandardNormal

    return StandardNormal(setting.latent_dim)


def _uniform(setting: Setting) -> Any:
    from ppl_gen.priors import Uniform

    return Uniform(setting.latent_dim)


def _mixture(setting: Setting) -> Any:
    from ppl_gen.priors import ConditionalMixture, MixtureOfGaussians

    if setting.condition is None:
        return MixtureOfGaussians(setting.latent_dim, _COMPONENTS)
    outputs = _COMPONENTS * (1 + 2 * setting.latent_dim)
    return ConditionalMixture(_of_context(setting.condition, outputs), _COMPONENTS)


def _flow(setting: Setting) -> Any:
    from ppl_gen.flows import coupling_flow
    from ppl_gen.priors import FlowPrior

    if setting.condition is None:
        return FlowPrior(coupling_flow(setting.latent_dim))
    return FlowPrior(
        coupling_flow(setting.latent_dim, _CODE), _of_context(setting.condition, _CODE)
    )


def _of_context(condition: Conditioning, outputs: int) -> Any:
    """A network from the context to so many numbers."""
    from ppl_gen.nn import Condition, context_width, mlp

    told = condition.arguments()
    width = context_width(**told, needed=True)
    return Condition(mlp([width, 64, outputs]), told["classes"], embed=told["embed"])


def _vamp(setting: Setting) -> Any:
    from ppl_gen.priors import VampPrior, pseudo_inputs

    encoder = getattr(setting.program, "encoder", None)
    if encoder is None:
        raise ValueError(
            f"expected a model with a guide for --prior vamp, got {setting.config.model}, which "
            "has none to average; take --prior mixture or flow, or fit a vae"
        )
    x = _some_data(setting.data.train)
    bounds = None
    if float(x.min()) >= 0 and float(x.max()) <= 1:
        bounds = (0.0, 1.0)
    count = getattr(setting.config, "pseudo_inputs", None)
    if count is None:
        count = min(_PSEUDO_INPUTS, len(setting.data.train))
    u = pseudo_inputs(x, count, seed=0)
    return VampPrior(encoder, u, bounds=bounds)


def _hierarchical(setting: Setting) -> Any:
    from ppl_gen.models import VAE, with_layer_above

    if type(setting.program) is not VAE:
        raise ValueError(
            "expected a model of one layer of latents without a condition for --prior "
            f"hierarchical, got {setting.config.model}; take another prior"
        )
    return with_layer_above(setting.program, setting.latent_dim)


def _some_data(train: Any) -> Any:
    """Data to begin pseudo-inputs with, grey where they can be.

    Where an entry is missing, it is the mean of those that are not, or 0 if all are.
    """
    import torch

    x = getattr(train, "x", None)
    if x is None:
        x = train.fixed(0, min(_PSEUDO_INPUTS, len(train))).x
    return torch.where(x.isnan(), x.nanmean(0).nan_to_num(), x)


def _hypersphere(setting: Setting) -> Any:
    from ppl_gen.priors import Hypersphere

    return Hypersphere(setting.latent_dim)


def _horseshoe(setting: Setting) -> Any:
    from ppl_gen.priors import Horseshoe

    return Horseshoe(setting.latent_dim)


def _spike_and_slab(setting: Setting) -> Any:
    from ppl_gen.priors import SpikeAndSlab

    return SpikeAndSlab(setting.latent_dim)


# Imports of torch and Pyro belong into the functions above: the command's help reads this table.
PRIORS = table_of(
    Part(
        name="standard-normal",
        text="N(z; 0, I), the same under every context",
        example="vae --prior standard-normal",
        make=_standard_normal,
    ),
    Part(
        name="uniform",
        text="uniform on the cube from -1 to 1, the code of the DCGAN paper",
        example="dcgan --prior uniform --latent-dim 100",
        make=_uniform,
    ),
    Part(
        name="mixture",
        text="a learned mixture of 10 Gaussians; given a context, one for each",
        example="vae --prior mixture",
        make=_mixture,
    ),
    Part(
        name="vamp",
        text="VampPrior: the guide averaged over 500 learned pseudo-inputs",
        example="vae --prior vamp --pseudo-inputs 100 --prior-after 10",
        make=_vamp,
        heeds=("pseudo_inputs",),
        needs_program=True,
    ),
    Part(
        name="flow",
        text="a normalising flow of 4 affine coupling layers",
        example="vae --prior flow --prior-after 10",
        make=_flow,
    ),
    Part(
        name="hierarchical",
        text="a second layer of latents: z1 ~ N(mean(z2), diag scale(z2)²)",
        example="vae --prior hierarchical",
        make=_hierarchical,
        needs_program=True,
        makes_program=True,
    ),
    Part(
        name="hypersphere",
        text="uniform on the sphere |z| = 1, under the guide on-sphere",
        example="vae --prior hypersphere --guide on-sphere",
        make=_hypersphere,
    ),
    Part(
        name="horseshoe",
        text="most latents near 0, few of any size, by half-Cauchy scales",
        example="vae --prior horseshoe",
        make=_horseshoe,
    ),
    Part(
        name="spike-and-slab",
        text="a fifth of the latents from N(0, 1), the others from N(0, 0.05²)",
        example="vae --prior spike-and-slab",
        make=_spike_and_slab,
    ),
)
