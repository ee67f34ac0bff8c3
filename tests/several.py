"""Several processes: as `torchrun` starts them, or forked, which takes no imports."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from command import PRELOADED
from torch import Tensor, nn

from ppl_gen.app.cli import app
from ppl_gen.app.evaluation.asked import Asked
from ppl_gen.app.evaluation.subject import Subject
from ppl_gen.app.run.opened import Fitted
from ppl_gen.inference import (
    FreeBits,
    NotFinite,
    adversarial_step,
    reconstruction_step,
    svi_step,
)
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.likelihoods import Dirac
from ppl_gen.models import autoencoder
from ppl_gen.program import register
from ppl_gen.protocols import Step
from ppl_gen.ranks import ProcessLost, Ranks, joined

SECONDS = 120  # after which a test says that something hangs
ENGINES: tuple[Engine, ...] = ("eager", "fx")
STEPS = 10
N = 21  # of two processes, one has a datum more
WIDTH = 3


def torchrun(count: int, *words: object) -> subprocess.Popen[str]:
    """The command in several processes that torchrun starts.

    Args:
        count: The number of processes.
        *words: Of the command.
    """
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    return subprocess.Popen(
        [*run, str(count), "-m", "ppl_gen", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(run: subprocess.Popen[str]) -> dict[int, int]:
    """The number of the process of each rank that torchrun has started, on Linux."""
    found = {}
    for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
        for entry in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == b"RANK":
                found[int(value)] = int(child)
    return found


def forked(count: int, target: Callable[..., Any], said: Path, *args: Any) -> list[BaseProcess]:
    """Processes that know each other as those do which torchrun starts.

    Args:
        count: The number of processes.
        target: What each of them calls.
        said: A folder for what they print, 0.txt and so on.
        *args: What the target is called with.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    said.mkdir(exist_ok=True)
    for number in range(count):
        child = context.Process(target=_act, args=(number, count, port, target, said, args))
        child.start()
        started.append(child)
    return started


def _act(
    number: int, count: int, port: int, target: Callable[..., Any], said: Path, args: Any
) -> None:
    sys.stdout = sys.stderr = open(said / f"{number}.txt", "w", buffering=1)  # noqa: SIM115
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(number),
        "LOCAL_WORLD_SIZE": str(count),
    }
    torch.set_num_threads(1)
    target(*args)


def ended(processes: list[BaseProcess]) -> list[int | None]:
    """The exit codes of processes, for which it waits; one that hangs is killed, and has None."""
    codes = []
    for process in processes:
        process.join(SECONDS)
        codes.append(process.exitcode)
        process.kill()
    return codes


def command(*words: object) -> None:
    """The command, in one of several processes.

    Args:
        *words: Of the command.
    """
    app([str(word) for word in words])


def call(count: int, said: Path, *words: object) -> tuple[list[int | None], list[str]]:
    """The exit codes of the command in several processes, and what each has printed.

    Args:
        count: The number of processes.
        said: A folder for what they print.
        *words: Of the command.
    """
    codes = ended(forked(count, command, said, *words))
    texts = [(said / f"{number}.txt").read_text() for number in range(count)]
    return codes, [" ".join(text.split()) for text in texts]


class _Given(dist.Normal):  # type: ignore[misc]
    """N(loc, scale²) whose draws are made of given noise: loc + scale · noise."""

    def __init__(self, loc: Tensor, scale: Tensor, noise: Tensor) -> None:
        super().__init__(loc, scale)
        self.noise = noise

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> _Given:
        return _Given(*(t.expand(batch_shape) for t in (self.loc, self.scale, self.noise)))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc + self.scale * self.noise


class Shared(nn.Module):
    """A VAE whose guide takes the noise of its draws with the data: (x, noise)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(WIDTH, 2)
        self.decoder = nn.Linear(1, WIDTH)

    def model(self, x: Tensor, noise: Tensor, *, n: int = 1) -> None:
        register(self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, noise: Tensor) -> None:
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", _Given(loc, log_scale.exp(), noise).to_event(1))


def batches() -> list[tuple[Tensor, Tensor]]:
    """Whole batches of data and noise, as one process has them."""
    own = torch.Generator().manual_seed(1)
    made = []
    for _ in range(STEPS):
        x = torch.randn(N, WIDTH, generator=own)
        made.append((x, torch.randn(N, 1, generator=own)))
    return made


def train(engine: Engine, ranks: Ranks | None) -> dict[str, Any]:
    """Ten steps, of this process's share of each batch; of all of it for one process.

    Args:
        engine: What the steps are run by.
        ranks: The processes; None for one.

    Returns:
        The gradient of the first step, the norms of all, the last ELBO, and the weights.
    """
    program = Shared()
    optimizer = torch.optim.Adam(program.parameters(), lr=0.01)
    step = svi_step(program, optimizer, engine=engine, across=ranks, clip=1.0)
    norms = []
    gradient = torch.empty(0)
    for index, batch in enumerate(batches()):
        if ranks is not None:
            batch = (batch[0][ranks.share(N)], batch[1][ranks.share(N)])
        metrics = step(*batch)
        norms.append(metrics["gradient_norm"])
        if index == 0:
            gradient = torch.cat([p.grad.flatten() for p in program.parameters()])  # type: ignore[union-attr]
    weights = _weights_of(program)
    return {
        "gradient": gradient,
        "norms": torch.stack(norms),
        "elbo": metrics["elbo"],
        "weights": weights,
    }


class Drawn(nn.Module):
    """A generator whose draws are made of given noise: (x, noise)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.decoder = nn.Linear(1, WIDTH)

    def model(self, x: Tensor | None, noise: Tensor, *, n: int = 1) -> Tensor:
        register(self)
        with pyro.plate("data", n):
            standard = _Given(torch.zeros_like(noise), torch.ones_like(noise), noise)
            z = pyro.sample("z", standard.to_event(1))
            drawn: Tensor = pyro.sample("x", Dirac()(self.decoder(z)).to_event(1), obs=x)
            return drawn


class Critic(nn.Module):
    """A score of data, whatever their noise."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.net(x)


def play(ranks: Ranks | None) -> Tensor:
    """The weights of both sides after ten steps of a game; see `train`.

    Args:
        ranks: The processes; None for one.
    """
    program, critic = Drawn(), Critic()
    optimizers = [torch.optim.Adam(part.parameters(), lr=0.01) for part in (program, critic)]
    step = adversarial_step(program, critic, *optimizers, r1=0.1, across=ranks)
    _make_steps(step, ranks)
    return _weights_of(program, critic)


def reconstruct(ranks: Ranks | None) -> Tensor:
    """The weights of an autoencoder after ten steps.

    Args:
        ranks: The processes; None for one.
    """
    torch.manual_seed(0)
    made = autoencoder((WIDTH,), 1, hidden=(4,))
    step = reconstruction_step(made, torch.optim.Adam(made.parameters(), lr=0.01), across=ranks)
    _make_steps(step, ranks)
    return _weights_of(made)


def _make_steps(step: Step, ranks: Ranks | None) -> None:
    for x, noise in batches():
        if ranks is not None:
            x, noise = x[ranks.share(N)], noise[ranks.share(N)]
        step(x, noise)


def _weights_of(*parts: nn.Module) -> Tensor:
    weights: list[Tensor] = []
    for part in parts:
        weights.extend(p.detach().flatten() for p in part.parameters())
    return torch.cat(weights)


def _fails(ranks: Ranks) -> str:
    """What is said where the data of process 1 alone are no numbers."""
    program = Shared()
    step = svi_step(program, torch.optim.SGD(program.parameters(), lr=0.1), across=ranks)
    x, noise = batches()[0]
    step(x, noise)
    x = x.clone()
    if ranks.number == 1:
        x[0] = torch.inf
    try:
        step(x, noise)
    except NotFinite as error:
        return str(error)
    return "nothing"


def _refuses(ranks: Ranks) -> str:
    """What is said of an objective that is no average over data."""
    program = Shared()
    try:
        svi_step(program, torch.optim.SGD(program.parameters()), FreeBits(0.1), across=ranks)
    except ValueError as error:
        return str(error)
    return "nothing"


def work(folder: Path) -> None:
    """What each of two processes does in the test of steps; the second one then breaks off.

    Args:
        folder: Where each writes what it found.
    """
    with joined() as ranks:
        found: dict[str, Any] = {engine: train(engine, ranks) for engine in ENGINES}
        found["game"] = play(ranks)
        found["error"] = reconstruct(ranks)
        found["fails"] = _fails(ranks)
        found["refuses"] = _refuses(ranks)
        tensor = torch.full((2,), float(ranks.number))
        ranks.equalise([tensor])
        found["equal"] = tensor
        found["gathered"] = ranks.gather(ranks.number)
        found["from_first"] = ranks.from_first(f"said by {ranks.number}")
        torch.save(found, folder / f"{ranks.number}.pt")
        if ranks.number == 1:
            os._exit(3)
        try:
            ranks.gather(0)
        except ProcessLost as error:
            (folder / "lost").write_text(str(error))


def weigh(run: Path, folder: Path, count: int) -> None:
    """What each of several processes does to estimate log p(x), which process 0 writes.

    Args:
        run: The folder of a run.
        folder: Where it is written.
        count: Of the first test data.
    """
    with joined() as ranks:
        asked = Asked(particles=50, seed=1)
        subject = Subject(Fitted.open(run, "cpu"), asked, ranks)
        if ranks.is_first:
            found = subject.weighted(count)
            subject.end()
            torch.save({"value": found.value, "error": found.standard_error}, folder / "found.pt")
        else:
            subject.estimate_along()
