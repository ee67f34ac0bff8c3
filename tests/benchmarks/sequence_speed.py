"""How long a step of DRAW and of a text VAE takes against the same written by hand in PyTorch.

`OMP_NUM_THREADS=1 python tests/benchmarks/sequence_speed.py`. Both take turns over one batch of
random data; medians of the ratios are printed. By hand, guide and model share one pass through the
decoder of DRAW; in a program each has its own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.inference import svi_step
from ppl_gen.models import draw, text_vae

Step = Callable[[], object]


def divergence(loc: Tensor, log_scale: Tensor) -> Tensor:
    """KL(N(loc, exp(log_scale)²) ‖ N(0, I)), summed over all, in nats."""
    variance = (2 * log_scale).exp()
    return 0.5 * (variance + loc.square() - 1 - 2 * log_scale).sum()


def stepping(loss_of: Callable[[], Tensor], parameters: list[Tensor]) -> Step:
    """A step of Adam down a loss."""
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()

    return step


def draw_by_hand(x: Tensor, latent_dim: int, steps: int, hidden: int) -> Step:
    """DRAW without attention, the decoder run once."""
    size = x[0].numel()
    flat = x.flatten(1)
    reader = nn.LSTMCell(2 * size + hidden, hidden)
    painter = nn.LSTMCell(latent_dim, hidden)
    posterior = nn.Linear(hidden, 2 * latent_dim)
    write = nn.Linear(hidden, size)

    def loss() -> Tensor:
        zero = flat.new_zeros(len(flat), hidden)
        seen, drawn = (zero, zero), (zero, zero)
        canvas = torch.zeros_like(flat)
        kl = flat.new_zeros(())
        for _ in range(steps):
            read = torch.cat([flat, flat - canvas.sigmoid(), drawn[0]], -1)
            seen = reader(read, seen)
            loc, log_scale = posterior(seen[0]).chunk(2, -1)
            kl = kl + divergence(loc, log_scale)
            z = loc + log_scale.exp() * torch.randn_like(loc)
            drawn = painter(z, drawn)
            canvas = canvas + write(drawn[0])
        error = F.binary_cross_entropy_with_logits(canvas, flat, reduction="sum")
        return (error + kl) / len(flat)

    parts = nn.ModuleList([reader, painter, posterior, write])
    return stepping(loss, list(parts.parameters()))


def text_by_hand(x: Tensor, vocabulary: int, latent_dim: int, hidden: int, size: int) -> Step:
    """A text VAE of two GRUs, lines of full length."""
    reads = nn.Embedding(vocabulary, hidden)
    encoder = nn.GRU(hidden, hidden, batch_first=True)
    posterior = nn.Linear(hidden, 2 * latent_dim)
    start = nn.Linear(latent_dim, hidden)
    embedding = nn.Embedding(vocabulary + 1, size)
    beside = nn.Linear(hidden, size, bias=False)
    decoder = nn.GRU(size, hidden, batch_first=True)
    head = nn.Linear(hidden, vocabulary)
    first = x.new_full((len(x), 1), vocabulary)

    def loss() -> Tensor:
        _, last = encoder(reads(x))
        loc, log_scale = posterior(last[0]).chunk(2, -1)
        context = start(loc + log_scale.exp() * torch.randn_like(loc))
        inputs = embedding(torch.cat([first, x[:, :-1]], 1)) + beside(context)[:, None]
        states, _ = decoder(inputs, context.tanh()[None])
        error = F.cross_entropy(head(states).flatten(0, 1), x.flatten(), reduction="sum")
        return (error + divergence(loc, log_scale)) / len(x)

    parts = [reads, encoder, posterior, start, embedding, beside, decoder, head]
    return stepping(loss, list(nn.ModuleList(parts).parameters()))


def by_library(program: Any, x: Tensor, engine: Any) -> Step:
    """The step of a program."""
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    step = svi_step(program, optimizer, engine=engine)
    return lambda: step(x)


def main() -> None:
    """Times the rows asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=["draw", "text"], choices=["draw", "text"])
    parser.add_argument("--engines", nargs="+", default=["eager", "fx"])
    parser.add_argument("--steps", type=int, default=8, help="of DRAW")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--length", type=int, default=60, help="of lines")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    images = torch.rand(asked.batch, 1, 28, 28).round()
    lines = torch.randint(1, 80, (asked.batch, asked.length))
    by_hand: dict[str, Callable[[], Step]] = {
        "draw": lambda: draw_by_hand(images, 10, asked.steps, asked.hidden),
        "text": lambda: text_by_hand(lines, 80, 16, asked.hidden, 64),
    }
    programs: dict[str, Callable[[], tuple[Any, Tensor]]] = {
        "draw": lambda: (
            draw((1, 28, 28), 10, steps=asked.steps, hidden=asked.hidden),
            images,
        ),
        "text": lambda: (text_vae(80, asked.length, 16, hidden=asked.hidden), lines),
    }
    for row in asked.rows:
        contestants = {"by hand": by_hand[row]()}
        for engine in asked.engines:
            contestants[engine] = by_library(*programs[row](), engine)
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(asked.rounds):
            for name, step in contestants.items():
                begun = time.process_time()
                step()
                times[name].append(time.process_time() - begun)
        for name, taken in times.items():
            later = taken[3:]
            pairs = zip(later, times["by hand"][3:], strict=True)
            ratio = statistics.median(own / hand for own, hand in pairs)
            milliseconds = 1e3 * statistics.median(later)
            print(
                f"{row:5} {name:9} {milliseconds:8.1f} ms of CPU, {ratio:.2f} × by hand", flush=True
            )


if __name__ == "__main__":
    main()
