"""Posteriors of every day, as posteriordb has them: Pyro programs with data, by name.

The data are simulated with fixed seeds, scikit-learn's, or printed in books. Means and standard
deviations by long chains are in everyday.json, which `python tests/everyday.py` writes anew;
`tests/benchmarks/posterior_table.py` holds `posterior` against them.
"""

from __future__ import annotations

__all__ = ["EVERYDAY", "Error", "Everyday", "error_of", "reference"]

import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor

from ppl_gen.models import toy

FILE = Path(__file__).with_suffix(".json")
# Of a reference: so long that a mean is known to a hundredth of a standard deviation.
CHAINS, WARMUP, DRAWS = 64, 400, 250
_SLOW = 1000  # draws of a chain, where neighbours are much alike


class Everyday(NamedTuple):
    """A posterior, and what of it has moments to be held against others.

    Attributes:
        model: The Pyro program.
        data: What it is called with.
        left_out: Sites whose tails are too heavy for a mean or a standard deviation of draws.
        exact: By site, mean and standard deviation where they are known without draws.
        draws: Of each chain of the reference.
    """

    model: Callable[..., Any]
    data: tuple[Any, ...]
    left_out: tuple[str, ...] = ()
    exact: dict[str, tuple[Tensor, Tensor]] | None = None
    draws: int = DRAWS


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _standardised(x: Any) -> Tensor:
    x = torch.as_tensor(x, dtype=torch.float32)
    return (x - x.mean(0)) / x.std(0)


def _lagged(coefficient: Tensor, x: Tensor) -> Tensor:
    """h with hₜ = coefficient · hₜ₋₁ + xₜ, in log₂ T sums of what lies 1, 2, 4, … steps back."""
    h = x
    power = coefficient[..., None]
    back = 1
    while back < x.shape[-1]:
        h = h + power * torch.nn.functional.pad(h, (back, 0))[..., :-back]
        power = power * power
        back *= 2
    return h


def schools() -> Everyday:
    """Eight schools, not centred."""
    posterior = toy.EightSchools()
    return Everyday(posterior.model, posterior.data)


def linear() -> Everyday:
    """Ten correlated predictors of the progress of diabetes, noise unknown."""
    features, progress = load_diabetes(return_X_y=True)

    def model(x: Tensor, y: Tensor) -> None:
        intercept = pyro.sample("intercept", dist.Normal(0.0, 1.0))
        slopes = pyro.sample("slopes", dist.Normal(torch.zeros(10), 1.0).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfCauchy(1.0))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(intercept + x @ slopes, sigma), obs=y)

    return Everyday(model, (_standardised(features), _standardised(progress)))


def logistic() -> Everyday:
    """Thirty predictors of breast cancer, correlated up to 0.998."""
    features, malignant = load_breast_cancer(return_X_y=True)

    def model(x: Tensor, y: Tensor) -> None:
        intercept = pyro.sample("intercept", dist.Normal(0.0, 2.5))
        slopes = pyro.sample("slopes", dist.Normal(torch.zeros(30), 1.0).to_event(1))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Bernoulli(logits=intercept + x @ slopes), obs=y)

    return Everyday(model, (_standardised(features), torch.as_tensor(malignant).float()))


def poisson() -> Everyday:
    """Counts with an exposure, four predictors and overdispersion: a negative binomial."""
    g = _generator(1)
    x = torch.randn(120, 4, generator=g)
    exposure = torch.rand(120, generator=g) + 0.5
    rate = (1.0 + x @ torch.tensor([0.5, -0.3, 0.2, 0.0])).exp() * exposure
    gamma = torch.distributions.Gamma(3.0, 3.0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        y = torch.poisson(rate * gamma.sample((120,)))

    def model(x: Tensor, exposure: Tensor, y: Tensor) -> None:
        intercept = pyro.sample("intercept", dist.Normal(0.0, 2.5))
        slopes = pyro.sample("slopes", dist.Normal(torch.zeros(4), 1.0).to_event(1))
        shape = pyro.sample("shape", dist.LogNormal(0.0, 1.0))
        log_rate = intercept + x @ slopes + exposure.log()
        with pyro.plate("data", len(y)):
            pyro.sample(
                "y",
                dist.NegativeBinomial(shape, logits=log_rate - shape.log()),
                obs=y,
            )

    return Everyday(model, (x, exposure, y))


def poisson_lognormal() -> Everyday:
    """Counts with two predictors, each with a normal latent of its own: not centred."""
    g = _generator(13)
    x = torch.randn(120, 2, generator=g)
    extra = 0.6 * torch.randn(120, generator=g)
    rate = (1.0 + x @ torch.tensor([0.6, -0.4]) + extra).exp()
    y = torch.poisson(rate, generator=g)

    def model(x: Tensor, y: Tensor) -> None:
        intercept = pyro.sample("intercept", dist.Normal(0.0, 2.5))
        slopes = pyro.sample("slopes", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        log_sd = pyro.sample("log_sd", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(y)):
            raw = pyro.sample("raw", dist.Normal(0.0, 1.0))
            log_rate = intercept + x @ slopes + log_sd.exp() * raw
            pyro.sample("y", dist.Poisson(log_rate.exp()), obs=y)

    return Everyday(model, (x, y), draws=_SLOW)


def mixed_columns() -> Everyday:
    """A table of a number, an answer and a count: one ability of each row moves all three."""
    g = _generator(14)
    ability = torch.randn(80, generator=g)
    score = 1.0 + 1.2 * ability + 0.5 * torch.randn(80, generator=g)
    passed = torch.bernoulli((0.3 + 1.5 * ability).sigmoid(), generator=g)
    books = torch.poisson((1.8 + 0.7 * ability).exp(), generator=g)

    def model(score: Tensor, passed: Tensor, books: Tensor) -> None:
        easiness = pyro.sample("easiness", dist.Normal(torch.zeros(3), 2.0).to_event(1))
        discrimination = pyro.sample(
            "discrimination", dist.LogNormal(torch.zeros(3), 0.5).to_event(1)
        )
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        with pyro.plate("data", len(score)):
            ability = pyro.sample("ability", dist.Normal(0.0, 1.0))
            eta = easiness + discrimination * ability[..., None]
            pyro.sample("score", dist.Normal(eta[..., 0], sigma), obs=score)
            pyro.sample("passed", dist.Bernoulli(logits=eta[..., 1]), obs=passed)
            pyro.sample("books", dist.Poisson(eta[..., 2].exp()), obs=books)

    return Everyday(model, (score, passed, books), draws=_SLOW)


def radon() -> Everyday:
    """Houses in forty counties, whose intercepts are pooled in part: a county has one or twenty."""
    g = _generator(2)
    counties = 40
    county = (counties * torch.rand(300, generator=g).square()).long()
    floor = (torch.rand(300, generator=g) < 0.2).float()
    intercepts = 1.4 + 0.3 * torch.randn(counties, generator=g)
    y = intercepts[county] - 0.7 * floor + 0.75 * torch.randn(300, generator=g)

    def model(county: Tensor, floor: Tensor, y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        tau = pyro.sample("tau", dist.HalfNormal(1.0))
        slope = pyro.sample("slope", dist.Normal(0.0, 10.0))
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        with pyro.plate("counties", counties):
            raw = pyro.sample("raw", dist.Normal(0.0, 1.0))
        intercepts = pyro.deterministic("intercepts", mu + tau * raw, event_dim=1)
        with pyro.plate("houses", len(y)):
            pyro.sample("y", dist.Normal(intercepts[county] + slope * floor, sigma), obs=y)

    return Everyday(model, (county, floor, y))


def rats() -> Everyday:
    """Weights of thirty rats over five weeks: a line for each, all lines from one population."""
    g = _generator(3)
    age = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    start = 2.4 + 0.14 * torch.randn(30, 1, generator=g)
    growth = 0.43 + 0.035 * torch.randn(30, 1, generator=g)
    y = start + growth * age + 0.06 * torch.randn(30, 5, generator=g)

    def model(age: Tensor, y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 10.0).to_event(1))
        spread = pyro.sample("spread", dist.HalfNormal(torch.ones(2)).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        with pyro.plate("rats", len(y)):
            line = pyro.sample("line", dist.Normal(mean, spread).to_event(1))
            growth = line[..., :1] + line[..., 1:] * age
            pyro.sample("y", dist.Normal(growth, sigma).to_event(1), obs=y)

    return Everyday(model, (age, y))


def seeds() -> Everyday:
    """Seeds that germinated on 21 plates (Crowder 1978): a binomial regression, plates random."""
    r = "10 23 23 26 17 5 53 55 32 46 10 8 10 8 23 0 3 22 15 32 3"
    n = "39 62 81 51 39 6 74 72 51 79 13 16 30 28 45 4 12 41 30 51 7"
    seed = [0.0] * 11 + [1.0] * 10
    root = [0.0] * 5 + [1.0] * 6 + [0.0] * 5 + [1.0] * 5
    total = torch.tensor([float(word) for word in n.split()])
    germinated = torch.tensor([float(word) for word in r.split()])
    x1 = torch.tensor(seed)
    x2 = torch.tensor(root)
    features = torch.stack([torch.ones(21), x1, x2, x1 * x2], 1)

    def model(features: Tensor, total: Tensor, germinated: Tensor) -> None:
        slopes = pyro.sample("slopes", dist.Normal(torch.zeros(4), 2.5).to_event(1))
        tau = pyro.sample("tau", dist.HalfNormal(1.0))
        with pyro.plate("plates", len(total)):
            raw = pyro.sample("raw", dist.Normal(0.0, 1.0))
            logits = features @ slopes + tau * raw
            pyro.sample("germinated", dist.Binomial(total, logits=logits), obs=germinated)

    return Everyday(model, (features, total, germinated))


def dogs() -> Everyday:
    """Thirty dogs that learn to avoid a shock in 25 trials (Gelman and Hill, section 24.2)."""
    g = _generator(4)
    shocks = torch.zeros(30, 25)
    for trial in range(25):
        past = shocks[:, :trial]
        avoided = trial - past.sum(1)
        logits = 2.0 - 0.25 * avoided - 0.15 * past.sum(1)
        shocks[:, trial] = torch.bernoulli(logits.sigmoid(), generator=g)
    shocked = shocks.cumsum(1) - shocks
    avoided = torch.arange(25.0) - shocked

    def model(avoided: Tensor, shocked: Tensor, y: Tensor) -> None:
        beta = pyro.sample("beta", dist.Normal(torch.zeros(3), 10.0).to_event(1))
        logits = beta[0] + beta[1] * avoided + beta[2] * shocked
        pyro.sample("y", dist.Bernoulli(logits=logits).to_event(2), obs=y)

    return Everyday(model, (avoided, shocked, shocks))


def arma() -> Everyday:
    """yₜ = μ + φ yₜ₋₁ + θ eₜ₋₁ + eₜ, of 150 steps."""
    g = _generator(5)
    e = 0.5 * torch.randn(150, generator=g)
    noise = e + 0.3 * torch.cat([torch.zeros(1), e[:-1]])
    y = _lagged(torch.tensor(0.6), 0.5 + noise)

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        phi = pyro.sample("phi", dist.Normal(0.0, 2.0))
        theta = pyro.sample("theta", dist.Normal(0.0, 2.0))
        sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
        before = torch.cat([y.new_zeros(1), y[:-1]])
        errors = _lagged(-theta, y - mu - phi * before)
        pyro.factor("likelihood", dist.Normal(0.0, sigma).log_prob(errors).sum())

    return Everyday(model, (y,))


def garch() -> Everyday:
    """GARCH(1, 1) of 200 returns: σ²ₜ = a₀ + a₁ e²ₜ₋₁ + b σ²ₜ₋₁."""
    g = _generator(6)
    returns = torch.zeros(200)
    variance = torch.tensor(1.0)
    for t in range(200):
        if t > 0:
            variance = 0.2 + 0.25 * returns[t - 1] ** 2 + 0.6 * variance
        returns[t] = variance.sqrt() * torch.randn((), generator=g)

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        least = pyro.sample("least", dist.LogNormal(-1.0, 1.0))
        persistence = pyro.sample("persistence", dist.Beta(2.0, 2.0))
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        news = persistence * share
        squares = (y - mu).square()
        arriving = least + news * squares[:-1]
        first = squares.mean()[None]
        variance = _lagged(persistence - news, torch.cat([first, arriving]))
        pyro.factor("likelihood", dist.Normal(mu, variance.sqrt()).log_prob(y).sum())

    return Everyday(model, (0.8 * returns,))


def volatility() -> Everyday:
    """Stochastic volatility of 100 returns: log variances are an AR(1), not centred."""
    g = _generator(7)
    shocks = 0.25 * torch.randn(100, generator=g)
    h = -1.0 + _lagged(torch.tensor(0.95), shocks)
    y = (h / 2).exp() * torch.randn(100, generator=g)

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
        phi = pyro.sample("phi", dist.Beta(20.0, 1.5))
        sigma = pyro.sample("sigma", dist.HalfNormal(0.5))
        e = pyro.sample("e", dist.Normal(torch.zeros(len(y)), 1.0).to_event(1))
        h = mu + _lagged(phi, sigma * e)
        with pyro.plate("time", len(y)):
            pyro.sample("y", dist.Normal(0.0, (h / 2).exp()), obs=y)

    return Everyday(model, (y,))


def walk() -> Everyday:
    """Counts of a latent random walk of 60 steps, whose rates overflow at common starts."""
    from scenarios import counts
    from scenarios import walk as model

    return Everyday(model, (counts(60),))


def gaussian_process() -> Everyday:
    """A function at thirty places under a squared exponential kernel, its scales unknown."""
    g = _generator(8)
    x = torch.linspace(-3, 3, 30)
    y = (1.5 * x).sin() + 0.3 * torch.randn(30, generator=g)

    def model(x: Tensor, y: Tensor) -> None:
        length = pyro.sample("length", dist.InverseGamma(5.0, 5.0))
        scale = pyro.sample("scale", dist.HalfNormal(1.0))
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        distances = (x[:, None] - x).square()
        kernel = scale.square() * (-distances / (2 * length.square())).exp()
        covariance = kernel + (sigma.square() + 1e-4) * torch.eye(len(x))
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), covariance), obs=y)

    return Everyday(model, (x, y))


def mixture() -> Everyday:
    """Two normals of unknown means, scales and weights, the means kept in order."""
    g = _generator(9)
    is_second = torch.rand(200, generator=g) < 0.6
    y = torch.where(is_second, 1.8, -1.2) + 0.8 * torch.randn(200, generator=g)

    def model(y: Tensor) -> None:
        first = pyro.sample("first", dist.Normal(0.0, 2.0))
        gap = pyro.sample("gap", dist.LogNormal(0.5, 1.0))
        scales = pyro.sample("scales", dist.LogNormal(torch.zeros(2), 0.7).to_event(1))
        weight = pyro.sample("weight", dist.Beta(2.0, 2.0))
        locs = torch.stack([first, first + gap])
        logits = torch.stack([torch.log1p(-weight), weight.log()])
        parts = dist.Normal(locs, scales).log_prob(y[:, None]) + logits
        pyro.factor("likelihood", parts.logsumexp(-1).sum())

    return Everyday(model, (y,))


def horseshoe() -> Everyday:
    """Twenty predictors, three of which matter, under a regularised horseshoe (Piironen 2017)."""
    g = _generator(10)
    x = torch.randn(100, 20, generator=g)
    y = x[:, :3] @ torch.tensor([1.5, -1.0, 0.6]) + torch.randn(100, generator=g)

    def model(x: Tensor, y: Tensor) -> None:
        sigma = pyro.sample("sigma", dist.HalfNormal(2.0))
        overall = pyro.sample("overall", dist.HalfCauchy(0.1))
        each = pyro.sample("each", dist.HalfCauchy(torch.ones(20)).to_event(1))
        slab = pyro.sample("slab", dist.InverseGamma(2.0, 2.0))
        raw = pyro.sample("raw", dist.Normal(torch.zeros(20), 1.0).to_event(1))
        bounded = (slab * each.square() / (slab + overall.square() * each.square())).sqrt()
        slopes = pyro.deterministic("slopes", raw * overall * bounded, event_dim=1)
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(x @ slopes, sigma), obs=y)

    return Everyday(model, (x, y), left_out=("overall", "each", "slab"))


def abilities() -> Everyday:
    """Forty students answer twelve questions: abilities and difficulties (Rasch)."""
    g = _generator(11)
    ability = torch.randn(40, 1, generator=g)
    difficulty = torch.linspace(-1.5, 1.5, 12)
    y = torch.bernoulli((ability - difficulty).sigmoid(), generator=g)

    def model(y: Tensor) -> None:
        spread = pyro.sample("spread", dist.HalfNormal(2.0))
        ability = pyro.sample("ability", dist.Normal(torch.zeros(40), 1.0).to_event(1))
        difficulty = pyro.sample("difficulty", dist.Normal(torch.zeros(12), 2.0).to_event(1))
        logits = spread * ability[:, None] - difficulty
        pyro.sample("y", dist.Bernoulli(logits=logits).to_event(2), obs=y)

    return Everyday(model, (y,))


def correlated() -> Everyday:
    """Fifty normal coordinates of condition number 10⁴, none of them along an axis."""
    g = _generator(12)
    turned, _ = torch.linalg.qr(torch.randn(50, 50, generator=g))
    scales = torch.logspace(-2, 0, 50)
    factor = turned * scales
    mean = torch.randn(50, generator=g)

    def model(mean: Tensor, factor: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(50), 100.0).to_event(1).mask(False))
        white = torch.linalg.solve(factor, z - mean)
        pyro.factor("density", -white.square().sum() / 2)

    return Everyday(model, (mean, factor), exact={"z": (mean, factor.norm(dim=1))})


def _toy(posterior: Any, *left_out: str) -> Everyday:
    exact = {}
    for site, moments in posterior.reference().items():
        if site not in left_out:
            exact[site] = (moments.mean, moments.sd)
    return Everyday(posterior.model, tuple(posterior.data), left_out, exact)


EVERYDAY: dict[str, Callable[[], Everyday]] = {
    "eight schools": schools,
    "diabetes, linear": linear,
    "breast cancer, logistic": logistic,
    "counts, negative binomial": poisson,
    "counts, Poisson–lognormal": poisson_lognormal,
    "table, three kinds of columns": mixed_columns,
    "radon, 40 counties": radon,
    "rats, 30 lines": rats,
    "seeds, binomial mixed": seeds,
    "dogs": dogs,
    "ARMA(1, 1)": arma,
    "GARCH(1, 1)": garch,
    "stochastic volatility": volatility,
    "random walk of counts": walk,
    "Gaussian process": gaussian_process,
    "mixture of two normals": mixture,
    "regularised horseshoe": horseshoe,
    "Rasch, 40 students": abilities,
    "banana": lambda: _toy(toy.Banana()),
    "funnel, not centred": lambda: _toy(toy.Funnel(centred=False), "x"),
    "hidden Markov chain": lambda: _toy(toy.HiddenMarkov.simulated()),
    "correlated normal": correlated,
}


@cache
def _known() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf8"))


def reference(name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """By site, means and standard deviations, of long chains where they are not known exactly.

    Args:
        name: Of a posterior in `EVERYDAY`.
    """
    exact = EVERYDAY[name]().exact
    if exact is not None:
        return {site: (mean.double(), sd.double()) for site, (mean, sd) in exact.items()}
    held = _known()[name]
    found = {}
    for site, (mean, sd) in held["sites"].items():
        found[site] = (torch.tensor(mean).double(), torch.tensor(sd).double())
    return found


class Error(NamedTuple):
    """How far a posterior is off, at the most, in standard deviations."""

    mean: float
    sd: float


def error_of(name: str, means: Mapping[str, Tensor], sds: Mapping[str, Tensor]) -> Error:
    """The largest errors of a mean and of a standard deviation, of all sites with a reference.

    Args:
        name: Of a posterior in `EVERYDAY`.
        means: What is held against its reference, by site.
        sds: The same of standard deviations.
    """
    of_means = []
    of_sds = []
    for site, (mean, sd) in reference(name).items():
        of_means.append(float(((means[site] - mean) / sd).abs().max()))
        of_sds.append(float((sds[site] / sd - 1).abs().max()))
    return Error(max(of_means), max(of_sds))


def _computed(name: str) -> dict[str, Any]:
    """Means and standard deviations by long chains, and how sure they are."""
    from ppl_gen.inference import hmc

    posterior = EVERYDAY[name]()
    draws = hmc(
        posterior.model,
        *posterior.data,
        chains=CHAINS,
        warmup=WARMUP,
        draws=posterior.draws,
        target_accept=0.95,
        seed=1,
        engine="fx",
    )
    sites = {}
    for site, mean in draws.mean.items():
        if site in posterior.left_out:
            continue
        rounded = [round(float(x), 6) for x in mean.flatten()]
        spread = [round(float(x), 6) for x in draws.sd[site].flatten()]
        shape = tuple(mean.shape)
        pair = (torch.tensor(rounded).reshape(shape), torch.tensor(spread).reshape(shape))
        sites[site] = [value.tolist() for value in pair]
    return {
        "r_hat": round(draws.max_r_hat, 4),
        "min_ess": round(draws.min_ess),
        "divergences": draws.divergences,
        "sites": sites,
    }


def main() -> None:
    """Writes everyday.json anew, or the posteriors in it that are named."""
    held = {}
    if FILE.exists():
        held = json.loads(FILE.read_text(encoding="utf8"))
    for name in sys.argv[1:] or EVERYDAY:
        if EVERYDAY[name]().exact is not None:
            continue
        held[name] = _computed(name)
        summary = {key: value for key, value in held[name].items() if key != "sites"}
        print(name, summary, flush=True)
        FILE.write_text(json.dumps(held, ensure_ascii=False) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
