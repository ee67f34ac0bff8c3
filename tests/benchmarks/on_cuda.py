"""What a CUDA device gives: whether all runs there, agrees with the processor, and how fast it is.

    python tests/benchmarks/on_cuda.py --out found
    python tests/benchmarks/on_cuda.py --only burda --out found

from the top of the repository, with ppl-gen installed, pytest, and no network. The first command
takes `--seconds` (560) at most and begins with what is cheapest to know: does a recorded step equal
an eager one, how fast is it, do the estimators agree. A part that fails is a line. All that is
found is printed as it comes, and lies in found/on_cuda.json after every line. The second goes on
with the rows of Burda et al., from where an earlier call stopped; MNIST must lie at hand
(`PPL_GEN_DATA`), and BURDA_FRACTION (0.01) says of how many of the 3280 epochs. `--device cpu
--small` tries the script itself.

Times are of the wall clock, the device having been waited for; of each contestant the median turn.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # the steps that the tests know


class OutOfTime(BaseException):
    """A part has taken the seconds that it was given; nothing falls back for that."""


class Findings:
    """What was found, printed and written as it comes.

    Args:
        folder: Of on_cuda.json.
        device: That is looked at.
        small: Whether to try the script, not the device.
        seconds: That there are in all.
    """

    def __init__(self, folder: Path, device: torch.device, small: bool, seconds: float) -> None:
        self.folder = folder
        self.device = device
        self.small = small
        self._end = time.monotonic() + seconds
        self.lines: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self._end - time.monotonic()

    def size(self, full: int, small: int) -> int:
        """A size, or a small one where the script is tried."""
        if self.small:
            return small
        return full

    def say(self, what: str, **numbers: Any) -> None:
        """Prints and writes a line."""
        self.lines.append({"what": what, **numbers})
        told = [f"{name} {_shown(value)}" for name, value in numbers.items()]
        print(f"{what}: {', '.join(told)}", flush=True)
        text = json.dumps(self.lines, indent=1, default=str)
        (self.folder / "on_cuda.json").write_text(text)

    @contextmanager
    def part(self, what: str, seconds: float) -> Iterator[None]:
        """A part that may fail, and has so many seconds; where none are left, its section ends."""

        def stop(number: int, frame: Any) -> None:
            raise OutOfTime(f"stopped after {seconds:.0f} s")

        begun = time.monotonic()
        seconds = min(seconds, self.left)
        if seconds < 2:
            self.say(what, skipped="no time left")
            raise OutOfTime
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", RuntimeWarning)
                yield
        except (Exception, OutOfTime) as error:
            where = traceback.extract_tb(error.__traceback__)[-3:]
            places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in where]
            self.say(what, failed=f"{type(error).__name__}: {error}"[:600], at=" < ".join(places))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        texts = dict.fromkeys(str(w.message)[:300] for w in said if w.category is RuntimeWarning)
        for text in texts:
            self.say(f"{what}, warning", said=text)
        took = time.monotonic() - begun
        if took > 5:
            print(f"  ({what}: {took:.0f} s, {self.left:.0f} s left)", flush=True)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return str(value)


def synchronise(device: torch.device) -> None:
    """Waits for a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], Any], device: torch.device, turns: int = 3) -> tuple[float, float]:
    """Seconds of the first call, and the median of `turns` more."""
    taken = []
    for _ in range(turns + 1):
        synchronise(device)
        begun = time.perf_counter()
        run()
        synchronise(device)
        taken.append(time.perf_counter() - begun)
    return taken[0], statistics.median(taken[1:])


def peak_of(device: torch.device) -> float:
    """GiB that were held at most since the last call; 0 on a processor."""
    if device.type != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def contest(
    found: Findings,
    what: str,
    ways: Mapping[str, Callable[[], tuple[Callable[[], Any], float]]],
    turns: int = 3,
) -> None:
    """Times contestants: µs of a unit, and how many times as long the first of them takes.

    Args:
        found: Where it is said.
        what: Their work.
        ways: From a name to what makes a turn, and the number of units in it.
        turns: After the first, in which all is compiled.
    """
    first = None
    share = 150.0
    for name, make in ways.items():
        with found.part(f"{what}, {name}", share):
            with torch.device(found.device):
                run, units = make()
            peak_of(found.device)
            begun, median = seconds_of(run, found.device, turns)
            each = 1e6 * median / units
            first = first or each
            found.say(
                f"{what}, {name}",
                microseconds=each,
                times_the_first=each / first,
                first_turn_seconds=begun,
                peak_GiB=peak_of(found.device),
            )


# Whether it runs there


def machine(found: Findings) -> None:
    """What there is."""
    device = found.device
    found.say("torch", version=torch.__version__, python=sys.version.split()[0], device=str(device))
    if device.type != "cuda":
        return
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    found.say("device", name=name, GiB=total / 2**30, free_GiB=free / 2**30)
    with found.part("torch.compile there", 120):
        double = torch.compile(lambda x: (x * 2 + 1).sum())
        synchronise(device)
        found.say("torch.compile there", gives=float(double(torch.ones(1000, device=device))))


def recorded(found: Findings) -> None:
    """Recorded steps against eager ones, from the same weights, batches and random state."""
    from ppl_gen.critics import conv_critic
    from ppl_gen.inference import adversarial_step, classification_step, svi_step
    from ppl_gen.inference import reconstruction_step as reconstruct
    from ppl_gen.inference.engine import captured
    from ppl_gen.models import autoencoder, classifier, conv_vae, dcgan, vae

    def adam(module: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(module.parameters(), 1e-3, fused=True)

    def svi(make: Callable[[], Any], **options: Any) -> Callable[[Any], tuple[Any, Any]]:
        def made(engine: Any) -> tuple[Any, Any]:
            program = make()
            return program, svi_step(program, adam(program), engine=engine, **options)

        return made

    def denoise(engine: Any) -> tuple[Any, Any]:
        net = autoencoder((1, 8, 8), 2)
        return net, reconstruct(net, adam(net), engine=engine)

    def classify(engine: Any) -> tuple[Any, Any]:
        net = classifier(autoencoder((1, 8, 8), 4).encoder, 4, 10)
        return net, classification_step(net, adam(net), engine=engine)

    def game(engine: Any) -> tuple[Any, Any]:
        program, critic = dcgan((1, 8, 8), 4, width=8), conv_critic((1, 8, 8), width=8)
        return program, adversarial_step(
            program, critic, adam(program), adam(critic), r1=0.1, engine=engine
        )

    steps = {
        "SVI": svi(lambda: vae((1, 8, 8), 4)),
        "SVI, clipped and weighted": svi(lambda: vae((1, 8, 8), 4), beta=0.5, clip=1.0),
        "SVI, bfloat16": svi(lambda: vae((1, 8, 8), 4), precision="bfloat16"),
        "SVI, convolutions": svi(lambda: conv_vae((1, 8, 8), 4)),
        "autoencoder": denoise,
        "classifier": classify,
        "DCGAN": game,
    }
    can = captured.can_capture(found.device)
    for name, make in steps.items():
        # Without a device, the graph stands for its recording.
        for engine in ("fx", "inductor", "cuda-graph"):
            if engine == "inductor" and (found.small or name != "SVI"):
                continue
            if engine == "cuda-graph" and not can:
                continue
            with found.part(f"{name}, {engine}", 90):
                said = [_trajectory(make, e, found.device) for e in ("eager", engine)]
                found.say(f"{name}, {engine}", farthest_from_eager=_farthest(*said))


def _trajectory(make: Callable[[Any], tuple[Any, Any]], engine: str, device: Any) -> list[Any]:
    """The metrics of eight steps, every batch elsewhere in memory, and the weights after them."""
    torch.manual_seed(0)
    with torch.device(device):
        module, step = make(engine)
    x = torch.rand(8, 32, 1, 8, 8, device="cpu").round().to(device)
    y = torch.arange(32, device=device) % 10
    metrics = []
    for batch in x:
        metrics.append({k: v.detach().clone() for k, v in step(batch.clone(), y.clone()).items()})
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    return [*[torch.stack(list(m.values())) for m in metrics], weights]


def _farthest(got: Any, expected: Any) -> float:
    """The largest difference of two lists of tensors, relative to the largest entry of each."""
    worst = 0.0
    for a, b in zip(got, expected, strict=True):
        a, b = a.detach().double().cpu(), b.detach().double().cpu()
        if a.shape != b.shape or not bool((a.isfinite() == b.isfinite()).all()):
            return math.inf
        scale = float(b.abs().max().clamp(min=1e-12))
        worst = max(worst, float((a - b).abs().max()) / scale)
    return worst


def trajectories(found: Findings) -> None:
    """HMC, AIS and importance weights, recorded against eager ones at the same seed."""
    from ppl_gen.inference import ais, hmc, log_evidence
    from ppl_gen.models import toy, vae

    device = found.device
    torch.manual_seed(0)
    with torch.device(device):
        schools, program = toy.EightSchools(), vae((1, 8, 8), 4)
    data = [t.to(device) for t in schools.data]
    x = torch.rand(8, 1, 8, 8, device=device).round()
    calls: dict[str, Callable[..., Any]] = {
        "hmc": lambda engine: list(
            hmc(
                schools.model, *data, draws=4, warmup=4, chains=4, seed=0, engine=engine
            ).samples.values()
        ),
        "ais": lambda engine: [
            ais(program, x, temperatures=6, chains=2, leapfrogs=2, seed=0, engine=engine).value
        ],
        "log_evidence": lambda engine: [
            log_evidence(program, None, x, particles=64, chunk=64, seed=0, engine=engine).value
        ],
    }
    engines = ["fx"]
    if device.type == "cuda":
        engines = ["fx", "cuda-graph"]
    for name, call in calls.items():
        for engine in engines:
            with found.part(f"{name}, {engine}", 90), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*are no sample of.*")
                far = _farthest(call(engine), call("eager"))
                found.say(f"{name}, {engine}", farthest_from_eager=far)


# Whether it agrees with the processor


class _SharedNoise(TorchDispatchMode):
    """Draws every random number on the processor, so that two devices have the same."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in function.tags:
            return function(*args, **kwargs)
        tensors = [a for a in args if isinstance(a, Tensor)]
        device = kwargs.get("device") or (tensors[0].device if tensors else torch.device("cpu"))
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        here = [a.cpu() if isinstance(a, Tensor) else a for a in args]
        drawn = function(*here, **kwargs)
        if function.overloadpacket.__name__.endswith("_") and tensors:
            return tensors[0].copy_(drawn)
        if isinstance(drawn, Tensor):
            return drawn.to(device)
        return type(drawn)([part.to(device) for part in drawn])


def gradients(found: Findings) -> None:
    """Every kind of step, three of each, eager, on both devices with the same noise."""
    from steps import STEPS

    def place(device: torch.device, thing: Any) -> Any:
        if isinstance(thing, (tuple, list)):
            return type(thing)([place(device, each) for each in thing])
        if isinstance(thing, dict):
            return {key: place(device, each) for key, each in thing.items()}
        owner = getattr(thing, "__self__", None)
        if isinstance(owner, nn.Module):
            return getattr(place(device, owner), thing.__name__)
        if isinstance(thing, (Tensor, nn.Module)):
            return thing.to(device)
        return thing

    def walked(name: str, device: torch.device) -> list[Tensor]:
        torch.manual_seed(0)
        step, batch = STEPS[name](partial(place, device))
        with _SharedNoise():
            torch.manual_seed(1)
            told = [dict(step(*batch)) for _ in range(3)]
        return [torch.stack([v.detach().float() for v in metrics.values()]) for metrics in told]

    names = list(STEPS)
    if found.small:
        names = names[:4]
    for name in names:
        with found.part(f"step {name}", 20):
            far = _farthest(walked(name, found.device), walked(name, torch.device("cpu")))
            found.say(f"step {name}", farthest_from_processor=far)


def estimators(found: Findings) -> None:
    """Estimates of both devices: the z of their differences, or these where nothing is drawn."""
    from ppl_gen import inference
    from ppl_gen.models import toy, vae

    torch.manual_seed(0)
    program = vae((1, 8, 8), 4).eval()
    line = toy.PPCA(torch.randn(6, 2), torch.zeros(6), 0.5)
    schools = toy.EightSchools()
    x = torch.rand(64, 1, 8, 8).round()
    rows = line.model(None, n=64).detach()
    a, b = torch.randn(2, found.size(2000, 200), 8)
    b = b + 0.2
    few = {"chains": 8, "temperatures": found.size(200, 20), "seed": 0}
    draws = {"draws": found.size(1000, 100), "warmup": found.size(500, 50), "chains": 16, "seed": 0}

    def placed(thing: Any, device: torch.device) -> Any:
        import copy

        if isinstance(thing, nn.Module):
            return copy.deepcopy(thing).to(device)
        return thing.to(device)

    def moments_of(device: torch.device) -> list[tuple[float, float]]:
        data = [t.to(device) for t in schools.data]
        sampled = inference.hmc(placed(schools, device).model, *data, **draws)
        found_moments = []
        for values in sampled.samples.values():
            chains = values.double().reshape(16, -1, *values.shape[1:])
            if values.shape[0] == 16:
                chains = values.double()
            means = chains.mean(1).reshape(16, -1)
            error = means.std(0) / 4
            found_moments += list(
                zip(means.mean(0).tolist(), error.clamp(min=1e-9).tolist(), strict=True)
            )
        return found_moments

    def estimate(call: Callable[[torch.device], Any], device: torch.device) -> list[Any]:
        mean = call(device).mean()
        error = float(mean.standard_error)
        return [(float(mean.value), error)]

    def lower_and_upper(device: torch.device) -> list[tuple[float, float]]:
        sandwich = inference.bdmc(placed(line, device), 32, **few)
        bounds = [sandwich.lower.mean(), sandwich.upper.mean()]
        return [(float(bound.value), float(bound.standard_error)) for bound in bounds]

    drawn: dict[str, Callable[[torch.device], list[tuple[float, float]]]] = {
        "elbo": partial(
            estimate,
            lambda d: inference.elbo(placed(program, d), None, x.to(d), particles=200, seed=0),
        ),
        "log_evidence": partial(
            estimate,
            lambda d: inference.log_evidence(
                placed(program, d), None, x.to(d), particles=found.size(5000, 200), seed=0
            ),
        ),
        "ais": partial(estimate, lambda d: inference.ais(placed(line, d), rows.to(d), **few)),
        "bdmc": lower_and_upper,
        "hmc": moments_of,
    }
    processor = torch.device("cpu")
    for name, call in drawn.items():
        with found.part(name, 90):
            pairs = zip(call(found.device), call(processor), strict=True)
            scores = []
            for (there, error_there), (here, error_here) in pairs:
                scores.append((there - here) / max(math.hypot(error_there, error_here), 1e-12))
            worst = max(scores, key=abs)
            found.say(name, z=worst, of=len(scores))
    alike: dict[str, Callable[[torch.device], Any]] = {
        "mmd": lambda d: inference.mmd(a.to(d), b.to(d)).value,
        "energy_distance": lambda d: inference.energy_distance(a.to(d), b.to(d)).value,
        "frechet_distance": lambda d: inference.frechet_distance(a.to(d), b.to(d)).value,
        "moments": lambda d: inference.moments(a.to(d), b.to(d), seed=0).covariance.sample,
        "exact evidence": lambda d: placed(line, d).exact_log_evidence(rows.to(d)),
    }
    for name, value in alike.items():
        with found.part(name, 30):
            there, here = (torch.as_tensor(value(d)) for d in (found.device, processor))
            found.say(name, farthest_from_processor=_farthest([there], [here]))


# How fast it is


def epochs(found: Findings) -> None:
    """An epoch of a VAE of MNIST's size, binarised anew: µs of a step."""
    import pyro
    from by_hand.rivals import divergence, perceptron
    from pyro.infer import SVI, Trace_ELBO
    from torch.nn import functional as F

    from ppl_gen.data import Split
    from ppl_gen.inference import svi_step
    from ppl_gen.inference.fitting.loop import iterate
    from ppl_gen.models import vae

    device, batch = found.device, 100
    steps = found.size(600, 20)
    few = found.size(100, 5)
    grey = torch.rand(batch * steps, 784, device=device)
    hidden, latent = (200, 200), 10

    def library(engine: Any) -> tuple[Callable[[], Any], float]:
        program = vae((784,), latent, hidden=hidden)
        optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
        step = svi_step(program, optimizer, engine=engine, steps=10_000)
        batches = Split(grey, binarize="dynamic").batches(batch)
        return lambda: list(iterate(step, batches, 1)), steps

    def by_pyro() -> tuple[Callable[[], Any], float]:
        pyro.clear_param_store()
        program = vae((784,), latent, hidden=hidden)
        svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())

        def run() -> None:
            for rows in torch.randperm(len(grey), device=device)[: few * batch].split(batch):
                svi.step(torch.bernoulli(grey[rows]))

        return run, few

    def by_hand(**compiled: Any) -> tuple[Callable[[], Any], float]:
        encoder = perceptron(784, *hidden, 2 * latent)
        decoder = perceptron(latent, *reversed(hidden), 784)
        module = nn.ModuleList([encoder, decoder])
        optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)

        def loss(x: Tensor) -> Tensor:
            loc, log_scale = encoder(x).chunk(2, -1)
            z = loc + log_scale.exp() * torch.randn_like(loc)
            error = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            return (error + divergence(loc, log_scale)) / batch

        loss_of = loss
        if compiled:
            loss_of = torch.compile(loss, **compiled)

        def run() -> None:
            for rows in torch.randperm(len(grey), device=device).split(batch):
                optimizer.zero_grad()
                loss_of(torch.bernoulli(grey[rows])).backward()
                optimizer.step()

        return run, steps

    def by_numpyro() -> tuple[Callable[[], Any], float]:
        from speed.epochs import by_numpyro as make
        from speed.steps import Size

        return make(Size(784, hidden, latent, batch, steps)).run, steps

    ways: dict[str, Callable[[], tuple[Callable[[], Any], float]]] = {}
    if device.type == "cuda":
        ways["ppl-gen, cuda-graph"] = partial(library, "cuda-graph")
    if not found.small:
        ways["ppl-gen, inductor"] = partial(library, "inductor")
    ways |= {
        "ppl-gen, fx": partial(library, "fx"),
        "ppl-gen, eager": partial(library, "eager"),
        "Pyro": by_pyro,
        "PyTorch by hand": by_hand,
    }
    if not found.small:
        ways["PyTorch by hand, compiled"] = partial(by_hand, mode="default")
        ways["PyTorch by hand, compiled and recorded"] = partial(by_hand, mode="reduce-overhead")
    ways["NumPyro"] = by_numpyro
    contest(found, "epoch of 784-200-200-10, step", ways)


def images(found: Findings) -> None:
    """Steps of programs of convolutions."""
    from by_hand.programs import convolutional
    from speed.games import (
        Game,
        cycle_by_hand,
        cycle_by_library,
        game_by_hand,
        game_by_library,
    )
    from speed.steps import by_hand, by_library

    from ppl_gen.critics import conv_critic
    from ppl_gen.models import dcgan

    steps = found.size(20, 2)
    engines: list[Any] = ["eager"]
    if found.device.type == "cuda":
        engines = ["cuda-graph", "eager"]
    rival = partial(convolutional, found.size(64, 4))
    side = found.size(64, 16)
    width = found.size(64, 8)
    chosen = Game(
        f"{side} × {side} × 3",
        partial(dcgan, (3, side, side), 100, width=width),
        partial(conv_critic, (3, side, side), width=width),
        (3, side, side),
        found.size(128, 4),
        steps,
    )
    shape = (3, found.size(128, 32), found.size(128, 32))
    few = found.size(4, 1)
    contests: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
        "conv-VAE 28 × 28": (
            lambda engine: by_library(rival, steps, engine),
            lambda engine: by_hand(rival, steps),
            lambda engine: by_hand(rival, steps, compiled=True),
        ),
        f"DCGAN {chosen.what}": (
            lambda engine: game_by_library(chosen, 0.0, steps, engine),
            lambda engine: game_by_hand(chosen, 0.0, steps),
            lambda engine: None,
        ),
        f"CycleGAN {shape[1]} × {shape[2]}": (
            lambda engine: cycle_by_library(few, steps, engine, shape),
            lambda engine: cycle_by_hand(few, steps, shape),
            lambda engine: None,
        ),
    }

    def turn(make: Callable[..., Any], engine: Any) -> tuple[Callable[[], Any], float]:
        return make(engine).run, steps

    for what, (library, hand, compiled) in contests.items():
        ways: dict[str, Any] = {"PyTorch by hand": partial(turn, hand, None)}
        ways |= {f"ppl-gen, {engine}": partial(turn, library, engine) for engine in engines}
        if what.startswith("conv") and not found.small:
            ways["PyTorch by hand, compiled"] = partial(turn, compiled, None)
        contest(found, f"{what}, step", ways)


def chains(found: Findings) -> None:
    """HMC of 512 chains and AIS of 1000 images, there and, a share of it, on the processor."""
    import pyro
    import pyro.distributions as dist

    from ppl_gen.inference import ais, hmc
    from ppl_gen.models import vae

    count = found.size(512, 8)
    design = torch.randn(1000, 20)
    labels = (design @ torch.randn(20) > 0).float()

    def model(design: Tensor, labels: Tensor) -> None:
        weights = pyro.sample(
            "w", dist.Normal(design.new_zeros(20), design.new_ones(20)).to_event(1)
        )
        with pyro.plate("data", len(labels)):
            pyro.sample("y", dist.Bernoulli(logits=design @ weights), obs=labels)

    def sampled(engine: Any, device: torch.device, draws: int) -> float:
        data = (design.to(device), labels.to(device))
        begun = time.perf_counter()
        hmc(model, *data, draws=draws, warmup=draws, chains=count, seed=0, engine=engine)
        synchronise(device)
        return (time.perf_counter() - begun) / (2 * draws)

    def annealed(engine: Any, device: torch.device, rows: int, temperatures: int) -> float:
        program = vae((784,), 50, hidden=(200, 200)).to(device)
        x = torch.rand(rows, 784).round().to(device)
        begun = time.perf_counter()
        ais(program, x, temperatures=temperatures, chains=16, chunk=rows, seed=0, engine=engine)
        synchronise(device)
        return (time.perf_counter() - begun) / (rows * (temperatures + 50))

    processor = torch.device("cpu")
    engines: list[Any] = ["fx"]
    if found.device.type == "cuda":
        engines = ["cuda-graph", "inductor", "fx"]
    rows = found.size(1000, 4)
    for what, call, few, there, here in (
        ("hmc, an iteration", sampled, (2,), (found.size(200, 4),), (found.size(20, 4),)),
        (
            "ais, a datum and temperature",
            annealed,
            (rows, 2),
            (rows, found.size(200, 4)),
            (rows, 4),
        ),
    ):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(are no sample|accepted with).*")
            taken: dict[str, float] = {}
            with found.part(f"{what}, processor", 90):
                taken["processor"] = call("fx", processor, *here)
                found.say(f"{what}, processor, fx", microseconds=1e6 * taken["processor"])
            for engine in engines:
                with found.part(f"{what}, {engine}", 90):
                    call(engine, found.device, *few)  # what is compiled is compiled here
                    peak_of(found.device)
                    seconds = call(engine, found.device, *there)
                    ratio = taken.get("processor", math.nan) / seconds
                    found.say(
                        f"{what}, {engine}",
                        microseconds=1e6 * seconds,
                        times_as_fast_as_processor=ratio,
                        peak_GiB=peak_of(found.device),
                    )


def tests(found: Findings) -> None:
    """The tests that are marked cuda."""
    seconds = max(min(180.0, found.left - 5), 5.0)
    if found.small:
        seconds = 60.0
    words = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"]
    # A package that is missing there keeps some files from being read, not all.
    words += ["--continue-on-collection-errors", "tests"]
    with found.part("tests marked cuda", seconds + 5):
        try:
            ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
            lines = ended.stdout.strip().splitlines()
            (found.folder / "tests.txt").write_text(ended.stdout + ended.stderr)
            failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
            found.say("tests marked cuda", rc=ended.returncode, last=lines[-1:], failed=failed[:20])
        except subprocess.TimeoutExpired as error:
            (found.folder / "tests.txt").write_bytes(error.stdout or b"")
            found.say("tests marked cuda", failed=f"not over after {seconds:.0f} s")


def burda(found: Findings) -> None:
    """The one-layer rows, each for its share of the time, from where an earlier call stopped."""
    from iwae_table import PUBLISHED, ROWS, STAGES, scored

    from ppl_gen import data
    from ppl_gen.inference import svi_step
    from ppl_gen.inference.fitting.loop import iterate
    from ppl_gen.models import vae

    digits = data.load("mnist", binarize="dynamic").to(found.device)
    # Of the 3280 epochs; what a call does not come to, the next one does.
    fraction = float(os.environ.get("BURDA_FRACTION", "0.01"))
    ends = [fraction * sum(3**k for k in range(i + 1)) for i in range(STAGES)]
    total = max(round(ends[-1]), 1)

    def rate(epoch: int) -> float:
        """Of an epoch, counted from 0: that of the stage in which it begins."""
        return 10 ** (-3 - sum(end <= epoch for end in ends[:-1]) / 7)

    for row, share in zip(ROWS, range(len(ROWS), 0, -1), strict=True):
        place = found.folder / f"burda {row.replace(' ', '')}.pt"
        with found.part(f"burda, {row}", found.left / share):
            torch.manual_seed(0)
            with torch.device(found.device):
                program = vae(digits.shape, 50)
            optimizer = torch.optim.Adam(program.parameters(), 1e-3, eps=1e-4, fused=True)
            done = 0
            if place.exists():
                kept = torch.load(place, map_location=found.device, weights_only=True)
                program.load_state_dict(kept["program"])
                optimizer.load_state_dict(kept["optimizer"])
                done = kept["done"]
            batches = digits.train.batches(20)
            steps = len(batches)
            step = svi_step(
                program, optimizer, ROWS[row](), steps=total * steps, first_step=done * steps
            )
            until = time.monotonic() + 0.7 * found.left / share
            optimizer.param_groups[0]["lr"] = rate(done)
            if done < total:
                for record in iterate(step, batches, total, first_epoch=done + 1):
                    done = record.epoch
                    state = {"program": program.state_dict(), "optimizer": optimizer.state_dict()}
                    torch.save({**state, "done": done}, place)
                    optimizer.param_groups[0]["lr"] = rate(done)
                    if time.monotonic() > until:
                        break
            evidence, bound = scored(program, digits, found.size(1000, 10), found.size(5000, 50))
            found.say(
                f"burda, {row}",
                epochs=done,
                of=total,
                of_3280_epochs=done / 3280,
                NLL=-float(evidence.value),
                error=float(evidence.standard_error),
                bound=-float(bound.value),
                published=PUBLISHED[row],
            )


# In the order in which they are run: what is cheapest to know comes first.
SECTIONS: dict[str, Callable[[Findings], None]] = {
    "machine": machine,
    "recorded": recorded,
    "trajectories": trajectories,
    "epochs": epochs,
    "images": images,
    "estimators": estimators,
    "gradients": gradients,
    "chains": chains,
    "tests": tests,
    "burda": burda,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="try the script at small sizes")
    parser.add_argument("--seconds", type=float, default=560.0, help="that it takes at most")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path("on_cuda"))
    asked = parser.parse_args()
    device = torch.device(asked.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: no CUDA device on this machine; try the script by --device cpu --small")
    found = Findings(asked.out, device, asked.small, asked.seconds)
    for name, section in SECTIONS.items():
        if name not in asked.only:
            continue
        print(f"== {name}", flush=True)
        try:
            section(found)
        except OutOfTime:
            print(f"{name}: no time left", flush=True)
        except Exception as error:  # one section does not stop the others
            found.say(name, failed=f"{type(error).__name__}: {error}"[:600])


if __name__ == "__main__":
    main()
