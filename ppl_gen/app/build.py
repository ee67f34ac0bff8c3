"""From the words of the command line to objects, with every check that can be made before work starts."""

from __future__ import annotations

__all__ = [
    "LIKELIHOODS",
    "MODELS",
    "OBJECTIVES",
    "Config",
    "beta",
    "configure",
    "context",
    "dataset",
    "device",
    "fingerprint",
    "objective",
    "program",
    "resolve",
    "trainable",
]

import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO
from torch import nn

from ppl_gen import data, likelihoods, models
from ppl_gen.calling import takes
from ppl_gen.data import Dataset, Split
from ppl_gen.inference import IWAE, DReG, FreeBits, StickingTheLanding, annealed
from ppl_gen.inference.checks import check
from ppl_gen.inference.engine import expect_engine
from ppl_gen.sources import NAMES, nearest


@dataclass(frozen=True)
class Config:
    """What a run was asked for: one field per option of `ppl-gen fit`."""

    model: str
    data: str
    root: str | None
    binarize: str | None
    image_size: int | None
    likelihood: str
    latent_dim: int
    epochs: int
    batch_size: int
    lr: float
    seed: int
    engine: str = "eager"
    objective: str = "elbo"
    particles: int = 1
    beta: float = 1.0
    anneal: int = 0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, expected = getattr(self, field.name), str(field.type)
            if value is None and "None" in expected:
                continue
            kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
            if not isinstance(value, kinds[expected.removesuffix(" | None")]) or isinstance(value, bool):
                raise ValueError(f"expected {field.name} of type {expected}, got {value!r}")


Builder = Callable[[Dataset, Config, nn.Module], nn.Module]


def _cvae(dataset: Dataset, config: Config, likelihood: nn.Module) -> nn.Module:
    if dataset.classes is None and dataset.attributes is None:
        raise ValueError(
            f"expected labels for a CVAE, got none with {dataset.name}: sort the images into one folder per class, "
            f"store an array y beside x, or fit a vae"
        )
    return models.cvae(
        dataset.shape,
        config.latent_dim,
        classes=dataset.classes,
        attributes=None if dataset.classes else dataset.attributes,
        likelihood=likelihood,
    )


MODELS: dict[str, Builder] = {
    "vae": lambda d, c, likelihood: models.vae(d.shape, c.latent_dim, likelihood=likelihood),
    "cvae": _cvae,
    "conv-vae": lambda d, c, likelihood: models.conv_vae(d.shape, c.latent_dim, likelihood=likelihood),
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
    "elbo": lambda k: Trace_ELBO(k, vectorize_particles=True, max_plate_nesting=1) if k > 1 else Trace_ELBO(),
    "iwae": IWAE,
    "dreg": DReG,
    "sticking-the-landing": StickingTheLanding,
}


def resolve(kind: str, name: str, known: Iterable[str]) -> str:
    """The name itself, or a ValueError with the nearest one."""
    known = list(known)
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; {nearest(name, known)}")
    return name


def configure(*, model: str, data: str, root: Path | None, binarize: str, likelihood: str, **numbers: Any) -> Config:
    """The configuration that the words of the command line mean: "auto" decided, paths made absolute.

    Raises:
        ValueError: If the model or likelihood is unknown, or no data are named.
    """
    resolve("model", model, MODELS)
    resolve("likelihood", likelihood, LIKELIHOODS)
    resolve("objective", numbers["objective"], OBJECTIVES)
    expect_engine(numbers["engine"])
    if not data:
        raise ValueError("expected a name or a path with --data, got nothing")
    choice = ("dynamic" if likelihood == "bernoulli" else "none") if binarize == "auto" else binarize
    return Config(
        model=model,
        data=str(Path(data).resolve()) if data not in NAMES and Path(data).exists() else data,
        root=str(root.resolve()) if root else None,
        binarize=None if choice == "none" else choice,
        likelihood=likelihood,
        **numbers,
    )


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
    if chosen.type == "cuda" and not (torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count()):
        raise ValueError(f"no CUDA device for --device {name} on this machine; take --device cpu or auto")
    return chosen


def dataset(config: Config, *, download: bool = False) -> Dataset:
    """The data that a configuration names."""
    return data.load(
        config.data, config.root, download=download, binarize=config.binarize, image_size=config.image_size
    )


def program(config: Config, dataset: Dataset) -> Any:
    """A new program for the data, its weights drawn from the configuration's seed.

    Raises:
        ValueError: If a name is unknown or a number out of range, if labels are missing, or if the data do not suit the
            likelihood.
    """
    resolve("model", config.model, MODELS)
    resolve("likelihood", config.likelihood, LIKELIHOODS)
    for name, value in (("--epochs", config.epochs), ("--latent-dim", config.latent_dim), ("--lr", config.lr)):
        if not value > 0:
            raise ValueError(f"expected {name} above zero, got {value}")
    objective(config)
    beta(config, 1)
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"expected --seed from 0 to 2⁶³ − 1, got {config.seed}")
    dataset.train.batches(config.batch_size)  # says what is wrong with the size
    torch.manual_seed(config.seed)
    built: Any = MODELS[config.model](dataset, config, LIKELIHOODS[config.likelihood](dataset.train.levels))
    for split in (dataset.train, dataset.test):
        shown = split if isinstance(split, Split) and split.binarize is None else split.fixed(0, min(len(split), 256))
        check(built, built.guide, shown.x, *context(built, shown))
    return built


def trainable(config: Config, dataset: Dataset, device: torch.device) -> tuple[Any, torch.optim.Optimizer]:
    """A new program on the device, with the optimiser of its parameters.

    Raises:
        ValueError: As `program` does.
    """
    built = program(config, dataset).to(device)
    return built, torch.optim.Adam(built.parameters(), config.lr, fused=True)


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
        raise ValueError(f"expected --free-bits with the objective elbo, got {config.objective}; leave one out")
    return FreeBits(config.free_bits, config.particles)


def beta(config: Config, batches: int) -> float | Callable[[int], float]:
    """The weight of the KL term, a schedule where it is annealed.

    Raises:
        ValueError: If a number is out of range.
    """
    if not 0 <= config.beta < math.inf or config.anneal < 0:
        raise ValueError(f"expected --beta and --anneal of at least 0, got {config.beta} and {config.anneal}")
    return annealed(config.anneal * batches, 0.0, config.beta) if config.anneal else config.beta


def fingerprint(dataset: Dataset) -> str:
    """What a resumed run compares, so as not to go on with other data: their number and, held in memory, a checksum."""
    train = dataset.train
    pixels = f" {zlib.crc32(train.x.cpu().numpy().tobytes()):08x}" if isinstance(train, Split) else ""
    return f"{len(train)}{pixels}"


def context(program: Any, split: Split) -> list[torch.Tensor]:
    """What the program is conditioned on, of a split: its labels if the program takes any, else nothing."""
    return [split.y] if takes(program.model) == 2 and split.y is not None else []
