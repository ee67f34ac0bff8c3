"""Posteriors, sampled by the library, Pyro, NumPyro and nutpie."""

from __future__ import annotations

__all__ = ["POSTERIORS", "chains_of", "sampling"]

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_gen.inference import hmc, nuts
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.models import toy
from ppl_gen.nn import mlp
from speed.contest import Contest, Job, installed
from speed.scale import Scale

# From (numpyro, its distributions, jax.numpy, args): samples the same posterior.
Twin = Callable[[Any, Any, Any, list[Any]], None]


class Case(NamedTuple):
    """A posterior.

    Attributes:
        model: For Pyro.
        args: What it is called with.
        twin: The same in NumPyro's words.
        latents: The names of its latent sites.
        options: Of `hmc`.
        draws: Of each chain.
        slow: Draws of a chain of Pyro's, and iterations before them.
    """

    model: Callable[..., Any]
    args: tuple[Tensor, ...]
    twin: Twin
    latents: tuple[str, ...]
    options: Mapping[str, Any] = {}
    draws: int = 1000
    slow: int = 300


def _eight_schools() -> Case:
    schools = toy.EightSchools()
    spread = [15.0, 10, 16, 11, 9, 11, 10, 18]

    def twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
        mu = numpyro.sample("mu", d.Normal(0, 5))
        tau = numpyro.sample("tau", d.HalfCauchy(5))
        with numpyro.plate("schools", 8):
            eta = numpyro.sample("eta", d.Normal(0, 1))
            numpyro.sample("y", d.Normal(mu + tau * eta, jnp.array(spread)), obs=args[0])

    return Case(schools.model, schools.data, twin, ("mu", "tau", "eta"))


def _components() -> Case:
    """PPCA: ten latents of each of eight data."""
    loadings = torch.randn(64, 10)
    x = torch.randn(8, 10) @ loadings.T + 0.5 * torch.randn(8, 64)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(10), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ loadings.T, 0.5).to_event(1), obs=x)

    def twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
        with numpyro.plate("data", 8):
            z = numpyro.sample("z", d.Normal(jnp.zeros(10), 1).to_event(1))
            loc = z @ jnp.asarray(loadings.numpy()).T
            numpyro.sample("x", d.Normal(loc, 0.5).to_event(1), obs=args[0])

    return Case(model, (x,), twin, ("z",))


def _funnel() -> Case:
    funnel = toy.Funnel(centred=False)

    def twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
        v = numpyro.sample("v", d.Normal(0, 3))
        raw = numpyro.sample("x_raw", d.Normal(jnp.zeros(9), 1).to_event(1))
        numpyro.deterministic("x", jnp.exp(v / 2) * raw)

    return Case(funnel.model, (), twin, ("v", "x_raw"))


def _banana() -> Case:
    banana = toy.Banana()
    scale, bend = float(banana.scale), float(banana.curvature)

    def twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
        x1 = numpyro.sample("x1", d.Normal(0, scale))
        numpyro.sample("x2", d.Normal(bend * (x1**2 - scale**2), 1))

    return Case(banana.model, (), twin, ("x1", "x2"))


def _logistic() -> Case:
    weight = torch.randn(20)
    features = torch.randn(1000, 20)
    y = (torch.rand(1000) < (0.5 * features @ weight).sigmoid()).float()

    def model(y: Tensor) -> None:
        b = pyro.sample("b", dist.Normal(torch.zeros(20), 1.0).to_event(1))
        with pyro.plate("data", y.shape[0]):
            pyro.sample("y", dist.Bernoulli(logits=features @ b), obs=y)

    def twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
        b = numpyro.sample("b", d.Normal(jnp.zeros(20), 1).to_event(1))
        logits = jnp.asarray(features.numpy()) @ b
        numpyro.sample("y", d.Bernoulli(logits=logits), obs=args[0])

    return Case(model, (y,), twin, ("b",))


def _perceptron() -> Case:
    """The latents of 100 data under a perceptron: a thousand dimensions."""
    network = mlp([10, 64, 64], torch.nn.Tanh).requires_grad_(False)
    x = network(torch.randn(100, 10)) + 0.1 * torch.randn(100, 64)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(10), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(network(z), 0.1).to_event(1), obs=x)

    def twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
        a, b, c, e = [jnp.asarray(p.numpy()) for p in network.parameters()]
        with numpyro.plate("data", 100):
            z = numpyro.sample("z", d.Normal(jnp.zeros(10), 1).to_event(1))
            loc = jnp.tanh(z @ a.T + b) @ c.T + e
            numpyro.sample("x", d.Normal(loc, 0.1).to_event(1), obs=args[0])

    return Case(model, (x,), twin, ("z",), {"local": True}, slow=100)


def _correlated() -> Case:
    factor = torch.linalg.cholesky(0.99 * torch.ones(50, 50) + 0.01 * torch.eye(50))

    def model() -> None:
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(50), scale_tril=factor))

    def twin(numpyro: Any, d: Any, jnp: Any, args: list[Any]) -> None:
        scale_tril = jnp.asarray(factor.numpy())
        numpyro.sample("x", d.MultivariateNormal(jnp.zeros(50), scale_tril=scale_tril))

    return Case(model, (), twin, ("x",), draws=300, slow=100)


POSTERIORS: dict[str, Callable[[], Case]] = {
    "eight schools": _eight_schools,
    "PPCA": _components,
    "funnel, not centred": _funnel,
    "banana": _banana,
    "logistic": _logistic,
    "MLP": _perceptron,
    "correlated": _correlated,
}


@cache
def _case(name: str) -> Case:
    """The same posterior for all."""
    torch.manual_seed(0)
    return POSTERIORS[name]()


class Drawn(NamedTuple):
    """What a sampler has drawn.

    Attributes:
        samples: Of each site, (chains, draws, *event).
        share: The share of its time that went into warm-up and draws, not into compilation.
        prepared: Seconds of tracing and compilation, where they are known.
    """

    samples: Mapping[str, Any]
    share: float = 1.0
    prepared: float | None = None


def _columns(drawn: Drawn, latents: tuple[str, ...]) -> list[Any]:
    """The draws of each coordinate, (chains, draws)."""
    found = []
    for name in latents:
        values = np.asarray(drawn.samples[name], dtype=np.float64)
        flat = values.reshape(*values.shape[:2], -1)
        found += [flat[:, :, i] for i in range(flat.shape[2])]
    return found


def _job(case: Case, run: Callable[[], Drawn]) -> Job:
    """Draws, counted by the smallest bulk ESS of any coordinate, as ArviZ has it."""

    def effective(drawn: Drawn) -> float:
        return min(float(az.ess(column)) for column in _columns(drawn, case.latents))

    def note(drawn: Drawn) -> str:
        columns = _columns(drawn, case.latents)
        said = f"ESS {effective(drawn):.0f}"
        if columns[0].shape[0] > 1:
            said += f", R̂ {max(float(az.rhat(column)) for column in columns):.3f}"
        if drawn.prepared is not None:
            said += f", {drawn.prepared:.1f} s of preparation"
        return said

    return Job(run=run, units=effective, share=lambda drawn: drawn.share, note=note)


def by_library(name: str, draws: int, warmup: int, chains: int, engine: Engine) -> Job:
    """`hmc`."""
    case = _case(name)

    def run() -> Drawn:
        drawn = hmc(
            case.model,
            *case.args,
            draws=draws,
            warmup=warmup,
            chains=chains,
            engine=engine,
            **case.options,
        )
        prepared = drawn.preparation_seconds
        return Drawn(drawn.samples, drawn.seconds / (drawn.seconds + prepared), prepared)

    return _job(case, run)


def by_pyro(name: str, share: float) -> Job:
    """Pyro's NUTS, one chain."""
    case = _case(name)
    count = max(10, round(share * case.slow))

    def run() -> Drawn:
        return Drawn(nuts(case.model, *case.args, draws=count, warmup=count, chains=1).samples)

    return _job(case, run)


def by_numpyro(name: str, kernel: str, draws: int, warmup: int, chains: int) -> Job:
    """NumPyro's NUTS or HMC, tuned as it does by itself, its chains computed as one."""
    installed("numpyro", "jax")
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro import infer

    case = _case(name)
    args = [jnp.asarray(arg.numpy()) for arg in case.args]

    def twin() -> None:
        case.twin(numpyro, numpyro.distributions, jnp, args)

    sampler = infer.MCMC(
        getattr(infer, kernel)(twin),
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    seeds = iter(range(10**6))
    prepared: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(partial(_note_compilation, prepared))

    def run() -> Drawn:
        prepared.clear()
        begun = time.perf_counter()
        sampler.run(jax.random.key(next(seeds)))
        samples = jax.block_until_ready(sampler.get_samples(group_by_chain=True))
        seconds = time.perf_counter() - begun
        return Drawn(samples, 1 - sum(prepared) / seconds, sum(prepared))

    return _job(case, run)


def _note_compilation(prepared: list[float], event: str, seconds: float, **rest: Any) -> None:
    """Notes what JAX says of tracing and compiling: every run of a sampler does some anew."""
    if event.startswith("/jax/core/compile/"):
        prepared.append(seconds)


def by_nutpie(name: str, draws: int, warmup: int) -> Job:
    """nutpie's NUTS, one chain after another, over the gradient of NumPyro's twin."""
    installed("nutpie", "numpyro", "jax")
    import jax
    import jax.numpy as jnp
    import numpyro
    import nutpie
    from numpyro.infer.util import initialize_model
    from nutpie.compiled_pyfunc import from_pyfunc

    case = _case(name)
    args = [jnp.asarray(arg.numpy()) for arg in case.args]

    def twin() -> None:
        case.twin(numpyro, numpyro.distributions, jnp, args)

    info = initialize_model(jax.random.key(0), twin)
    flat, unflatten = jax.flatten_util.ravel_pytree(info.param_info.z)
    value = jax.jit(jax.value_and_grad(lambda q: -info.potential_fn(unflatten(q))))

    def log_density() -> Callable[[Any], tuple[float, Any]]:
        def at(q: Any) -> tuple[float, Any]:
            log_p, gradient = value(jnp.asarray(q, dtype=flat.dtype))
            return float(log_p), np.asarray(gradient, dtype=np.float64)

        return at

    def expand(*_: Any) -> Callable[..., dict[str, Any]]:
        return lambda q, *rest: {"q": np.asarray(q, dtype=np.float64)}

    model = from_pyfunc(
        ndim=flat.size,
        make_logp_fn=log_density,
        make_expand_fn=expand,
        expanded_dtypes=[np.dtype("float64")],
        expanded_shapes=[(flat.size,)],
        expanded_names=["q"],
    )
    seeds = iter(range(10**6))

    def run() -> Drawn:
        trace = nutpie.sample(
            model,
            draws=draws,
            tune=warmup,
            chains=4,
            cores=1,
            seed=next(seeds),
            progress_bar=False,
        )
        return Drawn({"q": trace.posterior["q"].values})

    return _job(case._replace(latents=("q",)), run)


def sampling(name: str, scale: Scale) -> Contest:
    """Chains, counted by their effective draws."""
    case = _case(name)
    draws = scale.count(case.draws, least=30)
    warmup = scale.count(300, least=30)
    ways: dict[str, Callable[[], Job]] = {}
    if scale.compiles:
        ways["ppl-gen, 64 chains"] = partial(by_library, name, draws, warmup, 64, "inductor")
    ways["ppl-gen, 64 chains, fx"] = partial(by_library, name, draws, warmup, 64, "fx")
    for kernel in ("NUTS", "HMC"):
        for chains in (64, 1):
            ways[f"NumPyro's {kernel}, {chains} chains"] = partial(
                by_numpyro, name, kernel, draws * _longer(case, chains), warmup, chains
            )
    ways["nutpie, 4 chains"] = partial(by_nutpie, name, draws, warmup)
    ways["Pyro's NUTS, one chain"] = partial(by_pyro, name, scale.share)
    return Contest(what=f"{draws} draws after {warmup}", unit="effective draw", ways=ways, rounds=1)


def _longer(case: Case, chains: int) -> int:
    """How many times as many draws so many chains make as 64 do: one chain has few effective."""
    if chains > 1:
        return 1
    return case.slow // 50


def chains_of(scale: Scale, chains: int) -> Contest:
    """The chains of `hmc` in the posterior of a perceptron's latents."""
    draws = scale.count(100, least=20)
    way = partial(by_library, "MLP", draws, draws, chains, "fx")
    return Contest(
        what=f"{chains} chains", unit="call", ways={"ppl-gen, fx": _by_call(way)}, rounds=1
    )


def _by_call(way: Callable[[], Job]) -> Callable[[], Job]:
    """The same, its time that of a call."""

    def make() -> Job:
        job = way()
        return Job(run=job.run, share=job.share)

    return make
