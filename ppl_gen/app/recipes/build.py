"""From the words of the command line to objects, with every check that can be made before work
starts.
"""

from __future__ import annotations

__all__ = [
    "ENOUGH",
    "LIKELIHOODS",
    "OBJECTIVES",
    "PROGRAMS",
    "Data",
    "beta",
    "channels",
    "configure",
    "dataset",
    "device",
    "expect_numbers",
    "fingerprint",
    "grey",
    "objective",
    "program",
    "settled",
]

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor, nn

from ppl_gen import data, likelihoods, models
from ppl_gen.app.config import EXPLICIT, MODELS, Config
from ppl_gen.app.recipes.conditions import Condition
from ppl_gen.data import Dataset, Split, StreamedSplit
from ppl_gen.data.domains import Domains
from ppl_gen.data.sources import NAMES
from ppl_gen.inference import IWAE, DReG, FreeBits, StickingTheLanding, annealed
from ppl_gen.inference.checks import check
from ppl_gen.inference.engine.replay import expect_engine
from ppl_gen.names import resolve

Data = Dataset | Domains
SHOWN = 2000  # images of a domain that a translator's own prior draws from


def _images(split: Split | StreamedSplit) -> Tensor:
    return split.fixed(0, SHOWN).x


def channels(config: Config, shape: tuple[int, ...]) -> int:
    """The width of a DCGAN and its critic: as asked for, or 32 channels below 32 pixels a side, 64
    from there on.
    """
    return config.width or (32 if max(shape[1:], default=0) < 32 else 64)


# By name, from the configuration, the data, what the program is conditioned on (None if nothing),
# and the likelihood.
PROGRAMS: dict[str, Callable[[Config, Any, Any, nn.Module], nn.Module]] = {
    "vae": lambda c, d, y, likelihood: models.vae(d.shape, c.latent_dim, likelihood=likelihood),
    "cvae": lambda c, d, y, likelihood: models.cvae(
        d.shape, c.latent_dim, classes=y.classes, attributes=y.attributes, likelihood=likelihood
    ),
    "conv-vae": lambda c, d, y, likelihood: models.conv_vae(
        d.shape, c.latent_dim, likelihood=likelihood
    ),
    "gan": lambda c, d, y, _: models.gan(d.shape, c.latent_dim),
    "dcgan": lambda c, d, y, _: models.dcgan(d.shape, c.latent_dim, width=channels(c, d.shape)),
    "cgan": lambda c, d, y, _: models.cgan(d.shape, c.latent_dim, **y.arguments()),
    "infogan": lambda c, d, y, _: models.infogan(
        d.shape, c.latent_dim, categories=c.categories, continuous=c.continuous
    ),
    "gmmn": lambda c, d, y, _: models.gmmn(d.shape, c.latent_dim),
    "cycle-gan": lambda c, d, y, _: models.cycle_gan(
        _images(d.a.train), _images(d.b.train), alike=c.identity > 0, width=c.width
    ),
}

# By name, from the number of grey levels of the data.
LIKELIHOODS: dict[str, Callable[[int], nn.Module]] = {
    "bernoulli": lambda levels: likelihoods.Bernoulli(),
    "continuous-bernoulli": lambda levels: likelihoods.ContinuousBernoulli(),
    "gaussian": lambda levels: likelihoods.Gaussian(),
    "heteroscedastic-gaussian": lambda levels: likelihoods.HeteroscedasticGaussian(),
    "laplace": lambda levels: likelihoods.Laplace(),
    "discretized-logistic": lambda levels: likelihoods.DiscretizedLogistic(levels=levels),
    "categorical": lambda levels: likelihoods.Categorical(levels),
}

# By name, from the number of particles.
OBJECTIVES: dict[str, Callable[[int], ELBO]] = {
    "elbo": lambda k: (
        Trace_ELBO(k, vectorize_particles=True, max_plate_nesting=1) if k > 1 else Trace_ELBO()
    ),
    "iwae": IWAE,
    "dreg": DReG,
    "sticking-the-landing": StickingTheLanding,
}


def configure(model: str, given: set[str], **options: Any) -> Config:
    """The configuration that the words of the command line mean: "auto" decided, paths made
    absolute.

    Args:
        model: The name of the model.
        given: The names of the options that were given, not left at their defaults.
        **options: A value for each field of the configuration.

    Raises:
        ValueError: If a name is unknown, no data are named, or an option was given that the model
            has no use for.
    """
    resolve("model", model, MODELS)
    Config.expect_options(model, given)
    if "paired" in given and options["condition"] != "edges":
        raise ValueError(
            "--paired is an option of --condition edges, got it with --condition "
            f"{options['condition']}; leave it out"
        )
    resolve("likelihood", options["likelihood"], LIKELIHOODS)
    resolve("objective", options["objective"], OBJECTIVES)
    expect_engine(options["engine"])
    if not options["data"]:
        raise ValueError("expected a name or a path with --data, got nothing")
    choice = options["binarize"]
    if choice in (None, "auto"):
        choice = "dynamic" if model in EXPLICIT and options["likelihood"] == "bernoulli" else "none"
    resolved = {
        "data": _absolute(options["data"]),
        "data_b": _absolute(options["data_b"]) if options["data_b"] else None,
        "root": str(Path(options["root"]).resolve()) if options["root"] else None,
        "binarize": None if choice == "none" else choice,
        "epochs": _LEAST_EPOCHS
        if options["epochs"] is None and model in EXPLICIT
        else options["epochs"],
        "lr": RATES.get(model, 5e-4) if options["lr"] is None else options["lr"],
        "loss": "non-saturating" if options["loss"] == "auto" else options["loss"],
    }
    return Config(model=model, **options | resolved)


# Learning rates where none is given; 5e-4 for the rest, which play against a critic.
RATES = dict.fromkeys((*EXPLICIT, "cycle-gan", "gmmn"), 1e-3)


ENOUGH = (
    3000  # steps, where no epochs are asked for: a generator and its critic want some thousands
)
_LEAST_EPOCHS = 20


def settled(config: Config, data: Data) -> Config:
    """With a number of epochs, where none is asked for: such that 3000 steps are made, and at least
    20.
    """
    if config.epochs is not None:
        return config
    an_epoch = len(data.train.batches(config.batch_size))
    return replace(config, epochs=max(_LEAST_EPOCHS, -(-ENOUGH // an_epoch)))


def _absolute(name: str) -> str:
    """A path made absolute, a name left as it is; either with suffixes after colons."""
    place, suffixes = data.parse(name)
    if place not in NAMES and Path(place).exists():
        place = str(Path(place).resolve())
    return ":".join([place, *suffixes])


def device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one.

    Raises:
        ValueError: If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:0, ...") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"expected --device auto, cpu or cuda, got {name!r}")
    if chosen.type == "cuda" and not (
        torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count()
    ):
        raise ValueError(
            f"no CUDA device for --device {name} on this machine; take --device cpu or auto"
        )
    return chosen


def dataset(config: Config, *, download: bool = False) -> Data:
    """The data that a configuration names; two domains for a cycle-gan.

    Raises:
        ValueError: If they cannot be read, or the second domain is missing or of another shape.
    """
    options: dict[str, Any] = {
        "root": config.root,
        "download": download,
        "image_size": config.image_size,
    }
    if config.model != "cycle-gan":
        return data.load(config.data, binarize=config.binarize, **options)
    if config.data_b is None:
        raise ValueError(
            "expected two domains for a cycle-gan, got one; name the other with --data-b"
        )
    return Domains(data.load(config.data, **options), data.load(config.data_b, **options))


def grey(config: Config) -> Dataset:
    """The data of a configuration, not binarised."""
    found = dataset(replace(config, binarize=None))
    if isinstance(found, Domains):
        raise ValueError("expected a run of one data set, got a cycle-gan, which has two")
    return found


def expect_numbers(config: Config) -> None:
    """Says what is wrong with the numbers of a configuration that no part of the library would say.

    Raises:
        ValueError: Then.
    """
    positive = {
        "--epochs": config.passes,
        "--latent-dim": config.latent_dim,
        "--lr": config.lr or 0.0,
    }
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"expected {name} above zero, got {value}")
    if config.width is not None and config.width < 1:
        raise ValueError(f"expected --width of at least 1, got {config.width}")
    for name in ("continuous", "information", "paired", "semantic"):
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"expected --{name} of at least 0, got {value}")
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"expected --seed from 0 to 2⁶³ − 1, got {config.seed}")


def program(config: Config, data: Data, condition: Condition | None) -> Any:
    """A new program for the data, its weights drawn from the configuration's seed.

    Raises:
        ValueError: If a name is unknown or a number out of range, if labels are missing, or if the
            data do not suit the likelihood.
    """
    resolve("model", config.model, MODELS)
    resolve("likelihood", config.likelihood, LIKELIHOODS)
    expect_numbers(config)
    objective(config)
    beta(config, 1)
    levels = 256 if isinstance(data, Domains) else data.train.levels
    torch.manual_seed(config.seed)
    built: Any = PROGRAMS[config.model](
        config, data, condition, LIKELIHOODS[config.likelihood](levels)
    )
    if isinstance(data, Dataset) and config.model in EXPLICIT:
        for split in (data.train, data.test):
            plain = isinstance(split, Split) and split.binarize is None
            shown = (
                split
                if isinstance(split, Split) and plain
                else split.fixed(0, min(len(split), 256))
            )
            check(
                built,
                built.guide,
                shown.x,
                *([] if condition is None else condition.context(shown)),
            )
    return built


def objective(config: Config) -> ELBO:
    """The objective of a configuration.

    Raises:
        ValueError: If there is none of the name, or a number is out of range.
    """
    resolve("objective", config.objective, OBJECTIVES)
    if config.particles < 1:
        raise ValueError(f"expected --particles of at least 1, got {config.particles}")
    if config.free_bits == 0:
        return OBJECTIVES[config.objective](config.particles)
    if config.objective != "elbo":
        raise ValueError(
            f"expected --free-bits with the objective elbo, got {config.objective}; leave one out"
        )
    return FreeBits(config.free_bits, config.particles)


def beta(config: Config, batches: int) -> float | Callable[[int], float]:
    """The weight of the KL term, a schedule where it is annealed.

    Raises:
        ValueError: If a number is out of range.
    """
    if not 0 <= config.beta < math.inf or config.anneal < 0:
        raise ValueError(
            f"expected --beta and --anneal of at least 0, got {config.beta} and {config.anneal}"
        )
    return annealed(config.anneal * batches, 0.0, config.beta) if config.anneal else config.beta


def fingerprint(data: Data) -> str:
    """What a resumed run compares, so as not to go on with other data: their number and, held in
    memory, a checksum.
    """
    if isinstance(data, Domains):
        return f"{fingerprint(data.a)} and {fingerprint(data.b)}"
    train = data.train
    pixels = (
        f" {zlib.crc32(train.x.cpu().numpy().tobytes()):08x}" if isinstance(train, Split) else ""
    )
    return f"{len(train)}{pixels}"
