"""A run judged in nats: evidence with its error, and on demand how good that number, the guide and
the latents are.
"""

from __future__ import annotations

__all__ = ["evaluate"]

import math
from dataclasses import replace
from typing import Any

from rich.console import Console

from ppl_gen import plots
from ppl_gen.app.evaluation import by_samples, by_translations
from ppl_gen.app.evaluation.findings import Asked, Judged, Subject, numbers, pair
from ppl_gen.app.evaluation.statistics import expect_features
from ppl_gen.app.recipes import build
from ppl_gen.app.run.opened import Fitted
from ppl_gen.inference import ais, bdmc, collapse, elbo, gaps, log_evidence
from ppl_gen.likelihoods import Gaussian
from ppl_gen.program import Observed

_FEWEST = 19  # permutations, with which p can reach 0.05
_COLLAPSE = 1000  # data whose posteriors are looked at; time grows with their square


def evaluate(fitted: Fitted, asked: Asked, console: Console) -> dict[str, Any]:
    """Scores a test set, writes evaluation.json, draws pictures and prints the table.

    A program without a likelihood is judged by its samples; with a noise asked for, it has one.

    Raises:
        ValueError: Before work starts, if something is asked for that the run has not; if the
            evidence is not finite.
    """
    plain = not (asked.moments or asked.two_sample or asked.epsilon is not None)
    if plain and not fitted.explicit:
        asked = replace(asked, moments=not fitted.translates, two_sample=True)
    _expect(fitted, asked)
    subject = Subject(fitted, asked, console)
    noisy = asked.epsilon is not None
    judged = Judged({"data": len(subject.x), "seed": asked.seed, "epoch": fitted.epoch})
    first = not (fitted.run.folder / "evaluation.json").exists()
    for wanted, judge in (
        (fitted.explicit, _weighted),
        (fitted.explicit and asked.ais, _annealed),
        (fitted.explicit and asked.bdmc, _sandwiched),
        (asked.gaps, _split),
        (asked.collapse, _looked_through),
        (noisy, _under_noise),
        (asked.moments and not fitted.translates, by_samples.moments),
        (asked.two_sample and not fitted.translates, by_samples.two_sample),
        (asked.two_sample and fitted.config.model == "infogan", by_samples.information),
        (fitted.translates, by_translations.translations),
    ):
        if wanted:
            judge(subject, judged)
            if first:
                judged.write(
                    fitted.run
                )  # at once: what was found is not lost with what comes after
    judged.write(fitted.run)  # over an earlier one only when it is whole
    if not (fitted.explicit or noisy or fitted.translates):
        judged.words.append(
            f"{fitted.config.model} has draws and no likelihood, and so no score in nats; under a "
            "little noise it has one: --epsilon 0.1"
        )
    judged.show(f"{fitted.name}, {len(subject.x)} test data", fitted.run, console)
    return judged.result


def _expect(fitted: Fitted, asked: Asked) -> None:
    """Says when something is asked for that the run has not."""
    model = fitted.config.model
    if fitted.translates and (asked.ais or asked.bdmc or asked.epsilon is not None):
        raise ValueError(
            f"expected a run that draws data for --ais, --bdmc or --epsilon, got {model}; its "
            "translations are judged by --moments and --two-sample"
        )
    asked.expect_heeded(model)
    for name in ("gaps", "collapse"):
        if getattr(asked, name):
            fitted.expect_guide(f"--{name}")
    if (asked.ais or asked.bdmc) and not fitted.explicit and asked.epsilon is None:
        raise ValueError(
            f"{model} has no likelihood for --ais or --bdmc; say --epsilon 0.1, and it has one"
        )
    by_samples.expect_enough(fitted, asked)
    if asked.two_sample and asked.permutations < _FEWEST:
        raise ValueError(
            f"expected at least {_FEWEST} permutations, for a p-value of 0.05, got "
            f"{asked.permutations}"
        )
    for dataset in (fitted.data.a, fitted.data.b) if fitted.translates else (fitted.data,):
        expect_features(asked.features, dataset)


def _weighted(subject: Subject, judged: Judged) -> None:
    """Importance-weighted evidence and ELBO of all data."""
    asked, run = subject.asked, subject.fitted.run
    data, draws = (subject.x, *subject.given), min(asked.particles, 100)
    bound = elbo(subject.fitted.program, None, *data, particles=draws, seed=asked.seed).mean()
    each = log_evidence(
        subject.fitted.program,
        None,
        *data,
        particles=asked.particles,
        seed=asked.seed,
        progress=subject.progress,
    )
    mean = each.mean()
    if not math.isfinite(float(mean.value)):
        raise ValueError(
            f"the log evidence of the run {run.folder} is {float(mean.value)}: its weights have "
            "run away; fit it anew"
        )
    limit = min(1 - 1 / math.log10(asked.particles), 0.7) if asked.particles > 1 else 0.7
    heavy = None if each.k_hat is None else float((each.k_hat > limit).double().mean())
    spread = (
        float(mean.sampling_error)
        if len(subject.x) > 1 and mean.sampling_error is not None
        else None
    )
    judged.result.update(
        {
            "unit": "nats per datum",
            **numbers("log_evidence", "standard_error", mean),
            "sampling_error": spread,
            **numbers("elbo", "elbo_standard_error", bound),
            "elbo_particles": draws,
            "particles": asked.particles,
            "conditional": bool(subject.given),
            "binarize": run.config.binarize,
            "ess_smallest": None if mean.ess is None else float(mean.ess),
            "k_hat_limit": limit,
            "k_hat_above_limit": heavy,
        }
    )
    judged.row(f"test log evidence{subject.condition}", mean)
    judged.row(f"test ELBO{subject.condition}", bound)
    judged.words.append(
        f"{asked.particles} particles, binarisation {run.config.binarize or 'none'}, likelihood "
        f"{run.config.likelihood}; smallest effective sample size {float(mean.ess or 0):.0f}; "
        "another test set of this size would move the average by about "
        f"{spread or float('nan'):.2f}"
    )
    if heavy:
        judged.words.append(
            f"Pareto k̂ is above {limit:.2f} for {heavy:.1%} of the data: their weights have "
            "heavy tails, and their evidence is likely higher; raise --particles, or ask for "
            "--ais"
        )


def _annealed(subject: Subject, judged: Judged) -> None:
    """AIS beside importance weights on the same data."""
    asked, data = subject.asked, (subject.x_first, *subject.given_first)
    annealed = subject.anneal()
    weighted = log_evidence(
        subject.fitted.program, None, *data, particles=asked.particles, seed=asked.seed
    )
    bound = elbo(subject.fitted.program, None, *data, particles=100, seed=asked.seed)
    first = f"first {len(subject.x_first)}"
    judged.row(f"AIS, {first}", annealed)
    judged.row(f"importance weights, {first}", weighted)
    judged.result["ais"] = {
        **numbers("log_evidence", "standard_error", annealed.mean()),
        **numbers("importance_weighted", "importance_weighted_standard_error", weighted.mean()),
        "data": len(subject.x_first),
        "chains": asked.chains,
        "temperatures": asked.temperatures,
        "ess_mean": None if annealed.ess is None else float(annealed.ess.mean()),
    }
    estimates = {"ELBO": bound, f"importance weights, {asked.particles}": weighted, "AIS": annealed}
    points = {name: pair(estimate) for name, estimate in estimates.items()}
    subject.save(
        judged,
        "evidence.png",
        plots.evidence.bounds(points, title=f"log p(x) of the {first} test data"),
    )


def _sandwiched(subject: Subject, judged: Judged) -> None:
    """BDMC on as many data drawn from the program."""
    sandwich = bdmc(
        subject.fitted.program, len(subject.x_first), *subject.given_first, **subject.annealing
    )
    of = f"{len(subject.x_first)} drawn"
    judged.row(f"BDMC below, {of}", sandwich.lower)
    judged.row(f"BDMC above, {of}", sandwich.upper)
    gap = sandwich.mean_gap
    judged.row(f"BDMC gap, {of}", gap)
    judged.result["bdmc"] = {
        **numbers("lower", "lower_standard_error", sandwich.lower.mean()),
        **numbers("upper", "upper_standard_error", sandwich.upper.mean()),
        **numbers("gap", "gap_standard_error", gap),
        "data": len(subject.x_first),
        "chains": subject.asked.chains,
        "temperatures": subject.asked.temperatures,
    }
    judged.words.append(
        f"on data drawn from the model, AIS is too low by at most {gap} nats on average; on test "
        "data, which are like them as far as the model is good, by about as much"
    )
    figure = plots.evidence.sandwich(
        sandwich.lower.value, sandwich.upper.value, title=f"BDMC of {of} data"
    )
    subject.save(judged, "sandwich.png", figure)


def _split(subject: Subject, judged: Judged) -> None:
    """The inference gap and its parts, under the evidence of AIS."""
    found = gaps(
        subject.fitted.program,
        None,
        subject.x_first,
        *subject.given_first,
        evidence=subject.anneal(),
        seed=subject.asked.seed,
        progress=subject.progress,
    )
    for name, part in found.parts.items():
        judged.row(f"{name} gap" if "of it" not in name else name, part)
    judged.result["gaps"] = {
        **{
            name: numbers("value", "standard_error", part.mean())
            for name, part in found.parts.items()
        },
        "data": len(subject.x_first),
        "verdict": found.verdict,
    }
    judged.words.append(found.verdict)
    bars = {name: pair(part) for name, part in found.parts.items()}
    subject.save(
        judged, "gaps.png", plots.evidence.gap_bars(bars, title="between the ELBO and the evidence")
    )


def _looked_through(subject: Subject, judged: Judged) -> None:
    """Which latents are in use."""
    data = subject.head(_COLLAPSE)
    found = collapse(subject.fitted.program, None, *data, seed=subject.asked.seed)
    judged.row("KL of guide from prior", found.rate)
    judged.row("mutual information of x and z", found.mutual_information)
    judged.result["collapse"] = {
        "latents": len(found.names),
        "dead": found.dead,
        "collapsed": found.collapsed,
        **numbers("rate", "rate_standard_error", found.rate.mean()),
        **numbers(
            "mutual_information",
            "mutual_information_standard_error",
            found.mutual_information.mean(),
        ),
        "kl": found.kl.tolist(),
        "activity": found.activity.tolist(),
        "data": len(data[0]),
        "verdict": found.verdict,
    }
    judged.words += found.verdict
    figure = plots.evidence.collapse_panel(
        found.means, found.sds, found.kl, found.active, (found.prior_mean, found.prior_sd)
    )
    subject.save(judged, "collapse.png", figure)


def _under_noise(subject: Subject, judged: Judged) -> None:
    """AIS, and BDMC if asked for, of the program seen under Gaussian noise, on grey data, from the
    prior.
    """
    asked, fitted = subject.asked, subject.fitted
    epsilon = asked.epsilon or 0.0
    program = Observed(fitted.program, Gaussian(epsilon)).to(fitted.device)
    grey = build.grey(fitted.config).to(fitted.device).test.fixed(0, len(subject.x_first))
    given, options = fitted.context(grey), subject.annealing | {"guide": None}
    found, first = (
        ais(program, grey.x, *given, **options),
        f"noise of {epsilon:g}, first {len(grey)} grey",
    )
    judged.row(f"AIS under {first}", found)
    judged.result["noise"] = {
        "epsilon": epsilon,
        "data": len(grey),
        **{name: options[name] for name in ("chains", "temperatures")},
        **numbers("log_evidence", "standard_error", found.mean()),
    }
    if asked.bdmc:
        sandwich = bdmc(program, len(grey), *given, **options)
        judged.row(f"BDMC gap under noise, {len(grey)} drawn", sandwich.mean_gap)
        judged.result["noise"] |= numbers("bdmc_gap", "bdmc_gap_standard_error", sandwich.mean_gap)
        judged.words.append(f"under the noise: {sandwich}")
    if fitted.config.binarize:
        judged.words.append(
            "nats under noise are densities of grey data: not to be held beside those of binary "
            "pixels"
        )
