"""A step of SVI, with each size, prior, likelihood, guide and program."""

from __future__ import annotations

__all__ = ["conv", "parts", "perceptrons", "step_of_perceptrons", "step_of_rival"]

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pyro
import torch
from by_hand.guides import GUIDES
from by_hand.likelihoods import LIKELIHOODS
from by_hand.priors import PRIORS
from by_hand.programs import PROGRAMS, convolutional
from by_hand.rivals import Rival, divergence, perceptron
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.inference import svi_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.models import vae
from speed.contest import Contest, Job, installed
from speed.scale import Scale

# Graphs are compared with the program at steps 2, 4, 8 and 16: such are none to time, so that the
# first turn has more.
LEAST_STEPS = 17


class Size(NamedTuple):
    """A VAE and its batch.

    Attributes:
        pixels: D, the number of values of a datum.
        hidden: The hidden layers of the encoder, and of the decoder in reverse.
        latent: The number of latents.
        batch: The number of data in a batch.
        steps: The steps of a turn.
    """

    pixels: int
    hidden: tuple[int, ...]
    latent: int
    batch: int
    steps: int

    @property
    def what(self) -> str:
        """As a row has it."""
        layers = "-".join(map(str, (self.pixels, *self.hidden, self.latent)))
        return f"{layers}, batch {self.batch}"


SMALL = Size(64, (64,), 8, 50, 200)
MNIST = Size(784, (200, 200), 10, 100, 40)


def perceptrons(size: Size) -> Rival:
    """A VAE of binary data, its KL in closed form, as one would write it in plain PyTorch."""
    x = torch.rand(size.batch, size.pixels).round()
    encoder = perceptron(size.pixels, *size.hidden, 2 * size.latent)
    decoder = perceptron(size.latent, *reversed(size.hidden), size.pixels)

    def loss() -> Tensor:
        loc, log_scale = encoder(x).chunk(2, -1)
        z = loc + log_scale.exp() * torch.randn_like(loc)
        error = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        return (error + divergence(loc, log_scale)) / size.batch

    program = vae((size.pixels,), size.latent, hidden=size.hidden)
    return Rival(loss, [encoder, decoder], program, (x,))


def _repeated(step: Callable[[], Any], steps: int) -> Job:
    """So many steps in a turn."""

    def run() -> None:
        for _ in range(steps):
            step()

    return Job(run=run, units=lambda _: steps)


def by_library(make: Callable[[], Rival], steps: int, engine: Engine) -> Job:
    """Steps of the library."""
    rival = make()
    optimizer = torch.optim.Adam(rival.program.parameters(), 1e-4, fused=True)
    step = svi_step(rival.program, optimizer, rival.elbo, engine=engine)
    return _repeated(lambda: step(*rival.batch), steps)


def by_hand(make: Callable[[], Rival], steps: int, *, compiled: bool = False) -> Job:
    """Steps of fused Adam down a loss that is written in plain PyTorch."""
    rival = make()
    loss_of = rival.loss
    if compiled:
        loss_of = torch.compile(rival.loss)
    return _repeated(descent(loss_of, nn.ModuleList(rival.parts)), steps)


def descent(loss_of: Callable[..., Tensor], module: nn.Module) -> Callable[..., None]:
    """A step of fused Adam down a loss, as one would write it."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-4, fused=True)

    def step(*batch: Tensor) -> None:
        loss = loss_of(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def by_pyro(make: Callable[[], Rival], steps: int) -> Job:
    """Steps of pyro.infer.SVI with pyro.optim.Adam, as Pyro ships them."""
    rival = make()
    program = rival.program
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 1e-4}), Trace_ELBO())
    return _repeated(lambda: svi.step(*rival.batch), steps)


def by_pythae(size: Size) -> Job:
    """Steps of pythae's VAE with perceptrons of the same sizes, down its own loss."""
    installed("pythae")
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            BaseEncoder.__init__(self)
            self.net = perceptron(size.pixels, *size.hidden, 2 * size.latent)

        def forward(self, x: Tensor) -> Any:
            loc, log_variance = self.net(x).chunk(2, -1)
            return ModelOutput(embedding=loc, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            BaseDecoder.__init__(self)
            self.net = perceptron(size.latent, *reversed(size.hidden), size.pixels)

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.net(z).sigmoid())

    config = VAEConfig(input_dim=(size.pixels,), latent_dim=size.latent, reconstruction_loss="bce")
    model = VAE(config, encoder=Encoder(), decoder=Decoder())
    x = torch.rand(size.batch, size.pixels).round()
    step = descent(lambda: model({"data": x}).loss, model)
    return _repeated(step, size.steps)


def step_of_rival(
    what: str, make: Callable[[], Rival], steps: int, scale: Scale, *, compiled: bool
) -> Contest:
    """A step of a program, and of what is written by hand beside it.

    Args:
        what: The sizes.
        make: Makes both.
        steps: Of a turn.
        scale: How much is measured.
        compiled: Whether what compiles takes part, and Pyro's own loop.
    """
    ways: dict[str, Callable[[], Job]] = {}
    library = partial(by_library, make, steps)
    if compiled:
        ways["ppl-gen"] = partial(library, "inductor")
    ways |= {
        "ppl-gen, fx": partial(library, "fx"),
        "ppl-gen, eager": partial(library, "eager"),
        "PyTorch by hand": partial(by_hand, make, steps),
    }
    if compiled:
        ways["PyTorch by hand, compiled"] = partial(by_hand, make, steps, compiled=True)
        ways["Pyro"] = partial(by_pyro, make, steps)
    return Contest(what=what, unit="step", ways=ways, rounds=scale.rounds, counted="ppl-gen, eager")


def step_of_perceptrons(full: Size, scale: Scale) -> Contest:
    """The step of a VAE of perceptrons."""
    size = full._replace(steps=scale.count(full.steps, least=LEAST_STEPS))
    compiled = scale.compiles or (size.pixels < 100 and scale.name == "quick")
    make = partial(perceptrons, size)
    contest = step_of_rival(size.what, make, size.steps, scale, compiled=compiled)
    ways = {**contest.ways, "pythae": partial(by_pythae, size)}
    return Contest(**{**vars(contest), "ways": ways})


def conv(scale: Scale) -> Contest:
    """The step of a conditional VAE of convolutions, 28 × 28."""
    batch = scale.count(64, least=8)
    make = partial(convolutional, batch)
    steps = LEAST_STEPS
    what = f"28 × 28, 32 and 64 channels, latents 20, batch {batch}"
    return step_of_rival(what, make, steps, scale, compiled=scale.compiles)


def _part(make: Callable[[], Rival], scale: Scale) -> Contest:
    return step_of_rival("784-200-200-20 and its like", make, LEAST_STEPS, scale, compiled=False)


def parts() -> dict[str, Callable[[Scale], Contest]]:
    """A row for each part that `by_hand` has, without compilers."""
    kinds = {
        "prior": PRIORS,
        "likelihood": LIKELIHOODS,
        "guide": GUIDES,
        "program": PROGRAMS,
    }
    rows = {}
    for kind, table in kinds.items():
        for name, make in table.items():
            rows[f"{kind} {name}"] = partial(_part, make)
    return rows
