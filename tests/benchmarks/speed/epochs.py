"""An epoch of `fit`, data binarised anew at every presentation."""

from __future__ import annotations

__all__ = ["epoch"]

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import torch
from by_hand.rivals import divergence, perceptron
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.data import Split
from ppl_gen.inference import svi_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.fitting.loop import iterate
from ppl_gen.models import vae
from speed.contest import Contest, Job, installed
from speed.scale import Scale
from speed.steps import LEAST_STEPS, Size, descent


def _data(size: Size) -> Split:
    grey = torch.rand(size.batch * size.steps, size.pixels)
    return Split(grey, binarize="dynamic")


def _program(size: Size) -> Any:
    return vae((size.pixels,), size.latent, hidden=size.hidden)


def fitting(size: Size, engine: Engine) -> Job:
    """`fit`."""
    program = _program(size)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    step = svi_step(program, optimizer, engine=engine)
    batches = _data(size).batches(size.batch)
    return _job(size, lambda: list(iterate(step, batches, 1)))


def stepping(size: Size) -> Job:
    """As many compiled steps, on one batch again and again."""
    program = _program(size)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    step = svi_step(program, optimizer, engine="inductor")
    batch = next(iter(_data(size).batches(size.batch)))
    return _job(size, lambda: [step(*batch) for _ in range(size.steps)])


def looping(size: Size) -> Job:
    """A loop of Pyro's SVI."""
    program = _program(size)
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    batches = _data(size).batches(size.batch)
    return _job(size, lambda: [svi.step(x) for (x,) in batches])


def by_hand(size: Size, *, compiled: bool = False) -> Job:
    """A loop in plain PyTorch: a permutation, and a batch binarised in each step."""
    encoder = perceptron(size.pixels, *size.hidden, 2 * size.latent)
    decoder = perceptron(size.latent, *reversed(size.hidden), size.pixels)
    data = _data(size).x

    def loss(x: Tensor) -> Tensor:
        loc, log_scale = encoder(x).chunk(2, -1)
        z = loc + log_scale.exp() * torch.randn_like(loc)
        error = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        return (error + divergence(loc, log_scale)) / size.batch

    loss_of = loss
    if compiled:
        loss_of = torch.compile(loss)
    step = descent(loss_of, nn.ModuleList([encoder, decoder]))

    def run() -> None:
        for rows in torch.randperm(len(data)).split(size.batch):
            step(torch.bernoulli(data[rows]))

    return _job(size, run)


def by_numpyro(size: Size) -> Job:
    """One jitted loop of SVI's updates, as in NumPyro's own example of a VAE."""
    installed("numpyro", "jax")
    import jax
    import jax.numpy as jnp
    import numpyro
    from jax.example_libraries import stax
    from numpyro import distributions as dist
    from numpyro import infer

    def net(*widths: int) -> Any:
        layers = [stax.Dense(width) for width in widths]
        between = [stax.Tanh] * (len(layers) - 1)
        mixed = itertools.chain(*itertools.zip_longest(layers, between))
        return stax.serial(*[layer for layer in mixed if layer is not None])

    def model(x: Any) -> None:
        decode = numpyro.module(
            "decoder", net(*reversed(size.hidden), size.pixels), (size.batch, size.latent)
        )
        with numpyro.plate("data", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(size.latent), 1).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        encode = numpyro.module(
            "encoder", net(*size.hidden, 2 * size.latent), (size.batch, size.pixels)
        )
        loc, log_scale = jnp.split(encode(x), 2, -1)
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))

    svi = infer.SVI(model, guide, numpyro.optim.Adam(1e-3), infer.Trace_ELBO())
    data = jax.device_put(jnp.asarray(_data(size).x.numpy()))

    @jax.jit
    def pass_over(state: Any, key: Any) -> Any:
        of_order, of_pixels = jax.random.split(key)
        order = jax.random.permutation(of_order, data.shape[0])

        def body(i: Any, carried: Any) -> Any:
            total, state = carried
            rows = jax.lax.dynamic_slice_in_dim(order, i * size.batch, size.batch)
            x = jax.random.bernoulli(jax.random.fold_in(of_pixels, i), data[rows])
            state, loss = svi.update(state, x.astype(jnp.float32))
            return total + loss, state

        return jax.lax.fori_loop(0, size.steps, body, (0.0, state))

    held = {"state": svi.init(jax.random.key(0), data[: size.batch]), "key": jax.random.key(1)}

    def run() -> None:
        held["key"], key = jax.random.split(held["key"])
        total, held["state"] = pass_over(held["state"], key)
        jax.block_until_ready((total, held["state"]))

    return _job(size, run)


def _job(size: Size, run: Callable[[], Any]) -> Job:
    return Job(run=run, units=lambda _: size.steps)


def epoch(full: Size, scale: Scale) -> Contest:
    """An epoch, counted by its steps."""
    size = full._replace(steps=scale.count(full.steps, least=LEAST_STEPS))
    ways: dict[str, Callable[[], Job]] = {}
    if scale.compiles or scale.name == "quick":
        ways["ppl-gen"] = partial(fitting, size, "inductor")
        ways["ppl-gen, its compiled step alone"] = partial(stepping, size)
    ways |= {
        "ppl-gen, fx": partial(fitting, size, "fx"),
        "ppl-gen, eager": partial(fitting, size, "eager"),
        "NumPyro": partial(by_numpyro, size),
        "PyTorch by hand": partial(by_hand, size),
        "PyTorch by hand, compiled": partial(by_hand, size, compiled=True),
        "Pyro": partial(looping, size),
    }
    if not scale.compiles:
        del ways["PyTorch by hand, compiled"]
    return Contest(
        what=f"{size.what}, {size.steps} steps",
        unit="step",
        ways=ways,
        rounds=scale.rounds,
        counted="ppl-gen, eager",
    )
