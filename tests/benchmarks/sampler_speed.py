"""Effective draws per second of `hmc` against Pyro's NUTS and, where it is installed, NumPyro's, on
the same posteriors.

`make benchmarks`, or `OMP_NUM_THREADS=1 python tests/benchmarks/sampler_speed.py [NAME ...]`. The
smallest bulk ESS over all coordinates, by ArviZ, is divided by the seconds of warm-up and sampling;
compilation is counted in a column of its own, from an empty cache. R̂ is the largest, "off" the
largest distance of a mean from that of the longest run, in standard deviations.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# An empty cache, so that what is compiled is compiled here; before torch is imported.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="sampler_speed_")

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppl_gen.inference import hmc, nuts
from ppl_gen.models import toy
from ppl_gen.nn import mlp

torch.manual_seed(0)


class Case(NamedTuple):
    """A posterior, for Pyro and, in NumPyro's words, for it; and how it is sampled."""

    model: Callable[..., Any]
    args: tuple[Tensor, ...]
    twin: Callable[[Any, Any, Any, list[Any]], None] | None = None
    options: dict[str, Any] = {}
    slow: int = 300


weight, loadings = torch.randn(20), torch.randn(64, 10)
features = torch.randn(1000, 20)
responses = (torch.rand(1000) < (0.5 * features @ weight).sigmoid()).float()
pictures = torch.randn(8, 10) @ loadings.T + 0.5 * torch.randn(8, 64)
network = mlp([10, 64, 64], torch.nn.Tanh).requires_grad_(False)
seen = network(torch.randn(100, 10)) + 0.1 * torch.randn(100, 64)
factor = torch.linalg.cholesky(0.99 * torch.ones(50, 50) + 0.01 * torch.eye(50))


def logistic(y: Tensor) -> None:
    b = pyro.sample("b", dist.Normal(torch.zeros(20), 1.0).to_event(1))
    with pyro.plate("data", y.shape[0]):
        pyro.sample("y", dist.Bernoulli(logits=features @ b), obs=y)


def components(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(torch.zeros(10), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ loadings.T, 0.5).to_event(1), obs=x)


def perceptron(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(torch.zeros(10), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(network(z), 0.1).to_event(1), obs=x)


def correlated() -> None:
    pyro.sample("x", dist.MultivariateNormal(torch.zeros(50), scale_tril=factor))


def schools_twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
    mu, tau = numpyro.sample("mu", d.Normal(0, 5)), numpyro.sample("tau", d.HalfCauchy(5))
    with numpyro.plate("schools", 8):
        eta = numpyro.sample("eta", d.Normal(0, 1))
        numpyro.sample(
            "y", d.Normal(mu + tau * eta, jnp.array([15.0, 10, 16, 11, 9, 11, 10, 18])), obs=args[0]
        )


def funnel_twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
    v = numpyro.sample("v", d.Normal(0, 3))
    numpyro.deterministic(
        "x", jnp.exp(v / 2) * numpyro.sample("x_raw", d.Normal(jnp.zeros(9), 1).to_event(1))
    )


def logistic_twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
    b = numpyro.sample("b", d.Normal(jnp.zeros(20), 1).to_event(1))
    numpyro.sample("y", d.Bernoulli(logits=jnp.asarray(features.numpy()) @ b), obs=args[0])


def components_twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
    with numpyro.plate("data", 8):
        z = numpyro.sample("z", d.Normal(jnp.zeros(10), 1).to_event(1))
        numpyro.sample(
            "x", d.Normal(z @ jnp.asarray(loadings.numpy()).T, 0.5).to_event(1), obs=args[0]
        )


def perceptron_twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
    (a, b, c, e) = (jnp.asarray(p.numpy()) for p in network.parameters())
    with numpyro.plate("data", 100):
        z = numpyro.sample("z", d.Normal(jnp.zeros(10), 1).to_event(1))
        numpyro.sample("x", d.Normal(jnp.tanh(z @ a.T + b) @ c.T + e, 0.1).to_event(1), obs=args[0])


def correlated_twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
    numpyro.sample("x", d.MultivariateNormal(jnp.zeros(50), scale_tril=jnp.asarray(factor.numpy())))


schools, funnel = toy.EightSchools(), toy.Funnel(centred=False)
CASES = {
    "eight schools": Case(schools.model, schools.data, schools_twin),
    "PPCA, 80-d": Case(components, (pictures,), components_twin),
    "funnel, not centred": Case(funnel.model, (), funnel_twin),
    "logistic 20 × 1000": Case(logistic, (responses,), logistic_twin),
    "MLP posterior, 1000-d": Case(perceptron, (seen,), perceptron_twin, {"local": True}, 100),
    "correlated Gaussian, 50-d": Case(correlated, (), correlated_twin, {"draws": 300}, 100),
}


class Score(NamedTuple):
    ess: float
    r_hat: float
    means: np.ndarray[Any, Any]
    deviations: np.ndarray[Any, Any]


def score(samples: dict[str, Any], latents: list[str]) -> Score:
    """The worst coordinate of each latent site, of draws (chains, draws, ...)."""
    columns = [
        np.asarray(samples[k], dtype=np.float64).reshape(*samples[k].shape[:2], -1)
        for k in sorted(latents)
    ]
    draws = np.concatenate(columns, -1)
    each = [draws[:, :, i] for i in range(draws.shape[2])]
    r_hat = max(float(az.rhat(e)) for e in each) if draws.shape[0] > 1 else float("nan")
    return Score(min(float(az.ess(e)) for e in each), r_hat, draws.mean((0, 1)), draws.std((0, 1)))


def runs(case: Case) -> Iterator[tuple[str, float, float, dict[str, Any]]]:
    """(contestant, seconds, seconds of compilation, draws)."""
    options = {"draws": 1000, "warmup": 300, "chains": 64, "seed": 1} | case.options
    for engine in ("inductor", "fx"):
        few = {"draws": 200} if engine == "fx" else {}
        drawn = hmc(case.model, *case.args, engine=engine, **(options | few))
        yield (
            f"hmc, {options['chains']} chains, {engine}",
            drawn.seconds,
            drawn.preparation_seconds,
            drawn.samples,
        )
    drawn = nuts(case.model, *case.args, draws=case.slow, warmup=case.slow, chains=1, seed=1)
    yield "Pyro's NUTS, one chain", drawn.seconds, 0.0, drawn.samples
    if importlib.util.find_spec("numpyro") is None or case.twin is None:
        return
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro.infer import MCMC, NUTS

    args = [jnp.asarray(a.numpy()) for a in case.args]

    def twin() -> None:
        assert case.twin is not None
        case.twin(numpyro, numpyro.distributions, jnp, args)

    for chains, draws in (
        (64, case.options.get("draws", 1000)),
        (1, 20_000 if case.slow == 300 else 2000),
    ):
        sampler = MCMC(
            NUTS(twin),
            num_warmup=300,
            num_samples=draws,
            num_chains=chains,
            chain_method="vectorized",
            progress_bar=False,
        )
        start = time.perf_counter()
        sampler.run(jax.random.key(0))
        jax.block_until_ready(sampler.get_samples())
        first = time.perf_counter() - start
        start = time.perf_counter()
        sampler.run(jax.random.key(1))
        jax.block_until_ready(sampler.get_samples())
        seconds = time.perf_counter() - start
        yield (
            f"NumPyro's NUTS, {chains} chains",
            seconds,
            first - seconds,
            sampler.get_samples(group_by_chain=True),
        )


def main(names: list[str]) -> None:
    console = Console(width=120)
    for name in names or CASES:
        case = CASES[name]
        table = Table(title=name, title_justify="left")
        for column in (
            "",
            "seconds",
            "compiling",
            "ESS",
            "ESS/s",
            "… compiling counted",
            "R̂",
            "off, sd",
            "× Pyro",
        ):
            table.add_column(column, justify="right" if column else "left")
        rows = []
        for who, seconds, compiling, samples in runs(case):
            if not rows:
                latents = [
                    k for k in samples if k not in ("theta", "x" if "funnel" in name else "")
                ]
            found = score(samples, latents)
            rows.append((who, seconds, compiling, found))
        best = max((found for *_, found in rows), key=lambda found: found.ess)
        pyro_s = next(
            found.ess / seconds for who, seconds, _, found in rows if who.startswith("Pyro")
        )
        for who, seconds, compiling, found in rows:
            rate, all_in = found.ess / seconds, found.ess / (seconds + compiling)
            off = float(np.abs((found.means - best.means) / best.deviations).max())
            numbers = (
                f"{seconds:.2f}",
                f"{compiling:.1f}",
                f"{found.ess:.0f}",
                f"{rate:,.0f}",
                f"{all_in:,.0f}",
            )
            table.add_row(
                who, *numbers, f"{found.r_hat:.3f}", f"{off:.3f}", f"{rate / pyro_s:,.0f}"
            )
        console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
