"""Every kind of training step, small: name -> from a place to the step, and a batch for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from games import GAMES, adam
from pyro.infer import (
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from torch import Tensor, nn

from ppl_gen.corruptions import gaussian_noise, masking
from ppl_gen.critics import mlp_critic, patch_critic
from ppl_gen.inference import (
    IWAE,
    AdversarialLoss,
    AnalyticELBO,
    DReG,
    FreeBits,
    StickingTheLanding,
    adversarial_step,
    bidirectional_step,
    classification_step,
    cycle_step,
    greedy_step,
    losses,
    moment_step,
    moving_average,
    reconstruction_step,
    svi_step,
)
from ppl_gen.inference.games.cycle import ImagePool
from ppl_gen.models import (
    ali,
    autoencoder,
    autoencoder_layers,
    classifier,
    cycle_gan,
    gan,
    gmmn,
    ss_vae,
    stacked,
    vae,
)
from ppl_gen.penalties import Contractive, Sparse

SHAPE = (1, 4, 4)

# Lays a module or tensors where the step is to be made.
Place = Callable[[Any], Any]
Batch = tuple[Tensor, ...]
Made = tuple[Callable[..., Any], Batch]

OBJECTIVES: dict[str, Callable[[], Any]] = {
    "ELBO": Trace_ELBO,
    "ELBO of three particles": partial(Trace_ELBO, num_particles=3, vectorize_particles=True),
    "mean-field ELBO": TraceMeanField_ELBO,
    "graph ELBO": TraceGraph_ELBO,
    "enumerated ELBO": TraceEnum_ELBO,
    "Rényi ELBO": partial(RenyiELBO, num_particles=2),
    "IWAE": partial(IWAE, 3),
    "DReG": partial(DReG, 3),
    "sticking the landing": StickingTheLanding,
    "free bits": partial(FreeBits, 0.1),
    "analytic ELBO": AnalyticELBO,
}

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "denoising": {"corruption": masking(0.4)},
    "sparse": {"penalty": Sparse(0.1)},
    "contractive": {"penalty": Contractive(0.1)},
    "both, clipped": {
        "corruption": gaussian_noise(0.1),
        "penalty": Contractive(0.1, draws=2),
        "clip": 0.5,
    },
}


LOSSES = [name for name in losses.__all__ if isinstance(vars(losses)[name], AdversarialLoss)]


def images(count: int = 6) -> Tensor:
    return torch.rand(count, *SHAPE)


def _svi(objective: Callable[[], Any], place: Place, **options: Any) -> Made:
    program = place(vae(SHAPE, 2, hidden=(4,)))
    return svi_step(program, adam(program), objective(), **options), place((images().round(),))


def _of_labels(place: Place) -> Made:
    program = place(ss_vae(SHAPE, 2, classes=3, hidden=(4,)))
    batch = images().round(), torch.tensor([0, 2, -1, -1, 1, -1])
    return svi_step(program, adam(program)), place(batch)


def _game(name: str, place: Place) -> Made:
    program, critic, context, options = GAMES[name]()
    program, critic = place(program), place(critic)
    x = torch.rand(6, 2) if name == "gan of vectors" else torch.rand(6, 1, 8, 8)
    step = adversarial_step(program, critic, adam(program), adam(critic), **options)
    return step, place((x, *context))


def _of_loss(name: str, place: Place) -> Made:
    program, critic = place(gan(SHAPE, 2, hidden=(4,))), place(mlp_critic(SHAPE, hidden=(4,)))
    step = adversarial_step(
        program,
        critic,
        adam(program),
        adam(critic),
        getattr(losses, name),
        average=moving_average(program),
    )
    return step, place((images(),))


def _bidirectional(place: Place) -> Made:
    program = place(ali(SHAPE, 2, hidden=(4,)))
    critic = place(mlp_critic(SHAPE, attributes=2, hidden=(4,)))
    return bidirectional_step(program, critic, adam(program), adam(critic)), place((images(),))


def _cycle(place: Place) -> Made:
    a, b = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    program = place(cycle_gan(a, b, width=2, blocks=1))
    critics = place(patch_critic(1, width=2, layers=1)), place(patch_critic(1, width=2, layers=1))
    optimizers = adam(critics[0]), adam(critics[1])
    pools = place(ImagePool(6, (1, 8, 8))), place(ImagePool(6, (1, 8, 8)))
    step = cycle_step(program, critics, adam(program), optimizers, pools=pools)
    return step, place((a, b))


def _moments(place: Place) -> Made:
    program = place(gmmn(SHAPE, 2, hidden=(4,)))
    return moment_step(program, adam(program)), place((images(),))


def _reconstruction(options: dict[str, Any], place: Place) -> Made:
    net = place(autoencoder(SHAPE, 2, hidden=(4,), activation=nn.Tanh))
    return reconstruction_step(net, adam(net), **options), place((images(),))


def _greedy(place: Place) -> Made:
    layers = [place(layer) for layer in autoencoder_layers(SHAPE, (4, 2))]
    optimizers = [adam(part) for part in (*layers, stacked(layers))]
    return greedy_step(layers, optimizers, 1), place((images(),))


def _classification(place: Place) -> Made:
    net = place(classifier(autoencoder(SHAPE, 2, hidden=(4,)).encoder, 2, 3))
    return classification_step(net, adam(net)), place((images(), torch.arange(6) % 3))


STEPS: dict[str, Callable[[Place], Made]] = {
    **{f"svi, {name}": partial(_svi, of) for name, of in OBJECTIVES.items()},
    "svi, replayed": partial(_svi, Trace_ELBO, engine="fx"),
    "svi, clipped": partial(_svi, Trace_ELBO, clip=1.0),
    "svi, some labels": _of_labels,
    **{f"adversarial, {name}": partial(_game, name) for name in GAMES},
    **{f"adversarial, loss {name}": partial(_of_loss, name) for name in LOSSES},
    "bidirectional": _bidirectional,
    "cycle": _cycle,
    "moments": _moments,
    **{f"reconstruction, {name}": partial(_reconstruction, of) for name, of in OPTIONS.items()},
    "greedy": _greedy,
    "classification": _classification,
}
