"""A run judged in nats: its evidence, how good that number is, and what guide and latents lose."""

from __future__ import annotations

__all__ = [
    "bound_by_bdmc",
    "exact_evidence",
    "look_for_collapse",
    "score_by_ais",
    "score_by_weights",
    "score_exactly",
    "score_labels",
    "score_under_noise",
    "split_gap",
]

import math
from typing import Any

import torch
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.evaluation.findings import Judged, numbers, value_and_error
from ppl_gen.app.evaluation.measures import measure_of
from ppl_gen.app.evaluation.subject import Subject
from ppl_gen.app.ingredients.data import grey
from ppl_gen.contexts import evaluating
from ppl_gen.data import tokens_per_line
from ppl_gen.inference import Estimate, ais, bdmc, collapse, gaps
from ppl_gen.inference.evidence.weights import k_hat_limit
from ppl_gen.inference.prediction.labels import accuracy
from ppl_gen.likelihoods import Gaussian, Masked
from ppl_gen.program import Observed
from ppl_gen.protocols import Conditional

_ELBO_PARTICLES = 100
_ANNEALING = ("chains", "temperatures", "subset")  # options of AIS and of all that takes it
_COLLAPSE_DATA = 1000  # data whose posteriors are compared; time grows with their square


def score_by_weights(subject: Subject, judged: Judged) -> None:
    """log p(x) by importance weights, and the ELBO, averaged over all test data."""
    asked = subject.asked
    config = subject.fitted.config
    draws = min(asked.particles, _ELBO_PARTICLES)
    count = len(subject.x)
    bound = subject.elbo(count, draws).mean()
    evidence = subject.weighted(count, progress=True)
    mean = evidence.mean()
    _expect_finite(mean, subject)
    spread = None
    if len(subject.x) > 1 and mean.sampling_error is not None:
        spread = float(mean.sampling_error)
    ess = None if mean.ess is None else float(mean.ess)
    limit = k_hat_limit(asked.particles)
    heavy = None
    if evidence.k_hat is not None:
        is_heavy = evidence.k_hat > limit
        heavy = float(is_heavy.double().mean())
    missing = float(subject.x.isnan().double().mean())
    common = {
        "unit": "nats per datum",
        "measure": measure_of(subject.fitted),
        "conditional": bool(subject.given),
        "binarize": config.values.get("binarize"),
        "data": len(subject.x),
    }
    if missing:
        common["missing"] = missing
    found = {
        **numbers(mean),
        "sampling_error": spread,
        "ess_smallest": ess,
        "k_hat_limit": limit,
        "k_hat_above_limit": heavy,
    }
    judged.record("log_evidence", found | common, options=["particles"])
    of_bound = {**numbers(bound), "particles": draws}
    judged.record("elbo", of_bound | common, options=["particles"])
    judged.row(f"test log evidence{subject.condition}", mean)
    judged.row(f"test ELBO{subject.condition}", bound)
    if subject.fitted.is_text:
        _say_per_token(mean, subject, judged)
    under = ""
    if "likelihood" in config:
        under = f", binarisation {config.binarize or 'none'}, likelihood {config.likelihood}"
    judged.say(
        f"{asked.particles} particles{under}; smallest effective sample size {ess or 0:.0f}; "
        "another test set of this size would move the average by about "
        f"{spread or math.nan:.2f}"
    )
    if missing:
        judged.say(f"{missing:.1%} of the test data is missing: nats are of what is observed")
    if heavy:
        judged.say(
            f"Pareto k̂ is above {limit:.2f} for {heavy:.1%} of the data: their weights have "
            "heavy tails, and their evidence is likely higher; raise --particles, or ask for "
            "--ais"
        )


def exact_evidence(program: Any, x: Tensor) -> Estimate:
    """log p(x) of a program that knows it, per datum, in nats; without an error.

    Args:
        program: With `exact_log_evidence`.
        x: Data (N, *shape).
    """
    with evaluating(program):
        value = program.exact_log_evidence(x).double()
    return Estimate(value, torch.zeros_like(value))


def score_exactly(subject: Subject, judged: Judged) -> None:
    """log p(x) as the program knows it, averaged over all test data."""
    mean = exact_evidence(subject.fitted.program, subject.x).mean()
    _expect_finite(mean, subject)
    spread = None
    if mean.sampling_error is not None and len(subject.x) > 1:
        spread = float(mean.sampling_error)
    entry = {
        **numbers(mean),
        "sampling_error": spread,
        "unit": "nats per datum",
        "measure": measure_of(subject.fitted),
        "conditional": False,
        "binarize": subject.fitted.config.values.get("binarize"),
        "data": len(subject.x),
    }
    judged.record("log_evidence", entry)
    judged.row("test log p(x), exact", mean)
    judged.say(
        f"another test set of this size would move the average by about {spread or math.nan:.2f}"
    )


def _say_per_token(mean: Estimate, subject: Subject, judged: Judged) -> None:
    """The average evidence of lines of text, in nats per character or word."""
    vocabulary = subject.fitted.data.vocabulary
    tokens = float(tokens_per_line(subject.x).double().mean())
    value = -float(mean.value) / tokens
    error = float(mean.standard_error) / tokens
    found = {"value": value, "standard_error": error, "tokens": tokens}
    judged.record("nats_per_token", {**found, "level": vocabulary.level}, options=["particles"])
    judged.say(
        f"{value:.4f} ± {error:.4f} nats for each of {tokens:.1f} {vocabulary.level} of a line, "
        "its end included"
    )


def score_by_ais(subject: Subject, judged: Judged) -> None:
    """log p(x) by annealed importance sampling, beside importance weights on the same data."""
    asked = subject.asked
    count = len(subject.x_first)
    annealed = subject.annealed
    weighted = subject.weighted(count)
    bound = subject.elbo(count, _ELBO_PARTICLES)
    first = f"first {count}"
    judged.row(f"AIS, {first}", annealed)
    judged.row(f"importance weights, {first}", weighted)
    ess = None if annealed.ess is None else float(annealed.ess.mean())
    points = {
        "ELBO": value_and_error(bound),
        f"importance weights, {asked.particles}": value_and_error(weighted),
        "AIS": value_and_error(annealed),
    }
    figure = plots.evidence.bounds(points, title=f"log p(x) of the {first} test data")
    found = {
        **numbers(annealed.mean()),
        "importance_weighted": numbers(weighted.mean()),
        "data": count,
        "ess_mean": ess,
    }
    judged.record(
        "ais", found, options=[*_ANNEALING, "particles"], pictures={"evidence.png": figure}
    )


def bound_by_bdmc(subject: Subject, judged: Judged) -> None:
    """log p(x) bounded from both sides by bidirectional Monte Carlo, on data the program draws."""
    count = len(subject.x_first)
    sandwich = bdmc(subject.fitted.program, count, *subject.given_first, **subject.annealing)
    gap = sandwich.mean_gap
    drawn = f"{count} drawn"
    judged.row(f"BDMC below, {drawn}", sandwich.lower)
    judged.row(f"BDMC above, {drawn}", sandwich.upper)
    judged.row(f"BDMC gap, {drawn}", gap)
    judged.say(
        f"drawn from the model: {sandwich.verdict}; on test data, which are like them as far as "
        "the model is good, by about as much"
    )
    title = f"BDMC of {drawn} data"
    figure = plots.evidence.sandwich(sandwich.lower.value, sandwich.upper.value, title=title)
    found = {
        "lower": numbers(sandwich.lower.mean()),
        "upper": numbers(sandwich.upper.mean()),
        "gap": numbers(gap),
        "data": count,
        "verdict": " ".join(sandwich.verdict),
    }
    judged.record("bdmc", found, options=_ANNEALING, pictures={"sandwich.png": figure})


def split_gap(subject: Subject, judged: Judged) -> None:
    """The gap between ELBO and evidence and its parts, the evidence being that of AIS."""
    found = gaps(
        subject.fitted.program,
        None,
        subject.x_first,
        *subject.given_first,
        evidence=subject.annealed,
        seed=subject.asked.seed,
        progress=True,
    )
    verdict = " ".join(found.verdict)
    result: dict[str, Any] = {}
    bars = {}
    for name, part in found.parts.items():
        is_part_of_another = "of it" in name
        heading = name if is_part_of_another else f"{name} gap"
        judged.row(heading, part)
        result[name] = numbers(part.mean())
        bars[name] = value_and_error(part)
    judged.say(verdict)
    figure = plots.evidence.gap_bars(bars, title="between the ELBO and the evidence")
    judged.record(
        "gaps",
        {**result, "data": len(subject.x_first), "verdict": verdict},
        options=_ANNEALING,
        pictures={"gaps.png": figure},
    )


def look_for_collapse(subject: Subject, judged: Judged) -> None:
    """Which latents the guide uses, and how many nats they tell of the data."""
    x, *given = subject.head(_COLLAPSE_DATA)
    found = collapse(subject.fitted.program, None, x, *given, seed=subject.asked.seed)
    verdict = list(found.verdict)
    information = found.mutual_information
    judged.row("KL of guide from prior", found.rate)
    judged.row("mutual information of x and z", information)
    layers = {}
    for layer in found.layers:
        active = int(found.active[layer.latents].sum())
        layers[layer.name] = {"active": active, "rate": numbers(layer.rate.mean())}
        if len(found.layers) > 1:
            judged.row(f"KL of layer {layer.name}, {active} active", layer.rate)
    for sentence in verdict:
        judged.say(sentence)
    figure = found.plot()
    entry = {
        "latents": len(found.names),
        "dead": found.dead,
        "collapsed": found.collapsed,
        "rate": numbers(found.rate.mean()),
        "mutual_information": numbers(information.mean()),
        "kl": found.kl.tolist(),
        "activity": found.activity.tolist(),
        "layers": layers,
        "data": len(x),
        "verdict": verdict,
    }
    judged.record("collapse", entry, pictures={"collapse.png": figure})


def score_labels(subject: Subject, judged: Judged) -> None:
    """The share of test data whose label the guide infers rightly."""
    y = subject.y
    if y is None or not bool((y >= 0).any()):
        judged.say("no test datum has a label, which the inferred ones could be held against")
        return
    found = accuracy(subject.fitted.program, subject.x, y)
    low, high = found.interval()
    judged.record("accuracy", {**numbers(found), "data": found.count})
    judged.say(
        f"accuracy of the inferred label {float(found.value):.4f} ± "
        f"{float(found.standard_error):.4f} (95 %: {float(low):.4f} to {float(high):.4f}), "
        f"{found.count} data"
    )


def score_under_noise(subject: Subject, judged: Judged) -> None:
    """log p(x) of the program under Gaussian noise ε, by AIS from the prior, on data in grey.

    BDMC bounds it from both sides where it is asked for.
    """
    asked = subject.asked
    fitted = subject.fitted
    epsilon = asked.epsilon or 0.0
    test = grey(fitted.config).to(fitted.device).test.fixed(0, len(subject.x_first))
    noise: Conditional = Gaussian(epsilon)
    if bool(test.x.isnan().any()):
        noise = Masked(noise)
    program = Observed(fitted.program, noise).to(fitted.device)
    given = fitted.context(test)
    options = {**subject.annealing, "guide": None}
    evidence = ais(program, test.x, *given, **options)
    judged.row(f"AIS under noise of {epsilon:g}, first {len(test)} grey", evidence)
    result: dict[str, Any] = {**numbers(evidence.mean()), "data": len(test)}
    if asked.bdmc:
        sandwich = bdmc(program, len(test), *given, **options)
        judged.row(f"BDMC gap under noise, {len(test)} drawn", sandwich.mean_gap)
        result["bdmc_gap"] = numbers(sandwich.mean_gap)
        judged.say(f"under the noise: {sandwich}")
    judged.record("noise", result, options=["epsilon", *_ANNEALING])
    if fitted.config.binarize:
        judged.say(
            "nats under noise are densities of grey data: not to be held beside those of binary "
            "pixels"
        )


def _expect_finite(mean: Estimate, subject: Subject) -> None:
    value = float(mean.value)
    if not math.isfinite(value):
        raise ValueError(
            f"the log evidence of the run {subject.fitted.run.folder} is {value}: its weights have "
            "run away; fit it anew"
        )
