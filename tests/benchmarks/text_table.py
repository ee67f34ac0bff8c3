"""Nats per character of a text VAE and of its decoder without a latent, on sentences of Python's
own documentation.

`OMP_NUM_THREADS=2 python tests/benchmarks/text_table.py`; the sentences are those of
pydoc_data.topics, which ships with Python, of 20 to `--length` characters. One tenth is held out to
test, and one tenth of the rest decides at which epoch each model is best. The evidence is
importance-weighted, so that a text VAE is at most as good as shown.
"""

from __future__ import annotations

import argparse
import copy
import re
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch

from ppl_gen import data
from ppl_gen.data import tokens_per_line
from ppl_gen.inference import FreeBits, annealed, elbo, log_evidence, svi_step
from ppl_gen.models import language_model, text_vae
from ppl_gen.paths import path
from ppl_gen.program import simulate

END = re.compile(r"(?<=[.!?:;]) ")


def sentences(length: int) -> list[str]:
    """Sentences, and their parts between semicolons, of 20 to `length` characters, each once."""
    found: dict[str, None] = {}
    for topic in topics.values():
        for paragraph in topic.split("\n\n"):
            joined = " ".join(paragraph.replace('"', "'").replace("*", "").split())
            for sentence in END.split(joined):
                if is_plain(sentence) and 20 <= len(sentence) <= length:
                    found[sentence] = None
    return list(found)


def is_plain(sentence: str) -> bool:
    """Whether this is no heading, grammar or code: it begins with a letter and has four words."""
    return sentence[:1].isalpha() and sentence.isascii() and sentence.count(" ") >= 3


def loaded(length: int, level: str) -> data.Dataset:
    """The sentences, through a text file as a user's own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sentences.txt"
        file.write_text("\n".join(sentences(length)), encoding="utf8")
        return data.load(file, level=level)


def fitted(program: Any, x: torch.Tensor, asked: argparse.Namespace, objective: Any) -> Any:
    """The program as it was at the epoch of the best bound on a tenth of the lines."""
    held, seen = x.split([len(x) // 10, len(x) - len(x) // 10])
    batches = data.Split(seen).batches(asked.batch_size)
    optimizer = torch.optim.Adam(program.parameters(), asked.lr, fused=True)
    beta: Any = 1.0
    if asked.anneal:
        beta = annealed(asked.anneal * len(batches))
    step = svi_step(program, optimizer, objective, beta=beta, clip=5.0, engine="eager")
    best = float("-inf")
    kept = program
    for epoch in range(1, asked.epochs + 1):
        for batch in batches:
            step(*batch)
        bound = float(elbo(program, None, held, particles=4, seed=0).mean().value)
        if bound > best and epoch >= asked.anneal:
            best = bound
            kept = copy.deepcopy(program)
        if epoch % 5 == 0 or epoch == asked.epochs:
            print(f"  epoch {epoch}: held-out bound {bound:.2f}, best {best:.2f}", flush=True)
    return kept


def report(name: str, program: Any, x: torch.Tensor, particles: int) -> None:
    """The bound, the evidence, the KL and nats per token of lines, with Monte Carlo errors."""
    tokens = float(tokens_per_line(x).sum()) / len(x)
    bound = elbo(program, None, x, particles=min(particles, 100), seed=0).mean()
    evidence = log_evidence(program, None, x, particles=particles, seed=0).mean()
    spread = float(evidence.sampling_error)
    print(
        f"{name}: {len(x)} lines of {tokens:.1f} tokens; ELBO {bound}, log evidence {evidence} "
        f"nats per line ({particles} particles; spread over lines {spread:.2f}); "
        f"{-float(evidence.value) / tokens:.4f} ± {float(evidence.standard_error) / tokens:.4f} "
        "nats per token",
        flush=True,
    )


def rate(program: Any, x: torch.Tensor) -> float:
    """KL(q(z | x) ‖ p(z)) averaged over lines, in nats, in closed form."""
    with torch.no_grad():
        posterior = program.encoder(x).base_dist
        variance = posterior.scale.square()
        loc = posterior.loc
        return float(0.5 * (variance + loc.square() - 1 - variance.log()).sum(-1).mean())


def main() -> None:
    """Trains both models and scores the lines that neither has seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=70)
    parser.add_argument("--anneal", type=int, default=5, help="epochs in which β rises from 0")
    parser.add_argument("--length", type=int, default=80)
    parser.add_argument("--level", choices=["characters", "words"], default="characters")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--embedding", type=int, default=32)
    parser.add_argument("--latent-dim", type=int, default=16)
    parser.add_argument("--free-bits", type=float, default=0.25, help="nats for each latent")
    parser.add_argument("--word-dropout", type=float, default=0.2, help="of the text VAE")
    parser.add_argument(
        "--baselines",
        type=float,
        nargs="+",
        default=[0.0, 0.2],
        help="word dropouts of the decoder without a latent",
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    lines = loaded(asked.length, asked.level)
    print(f"{lines.stored}: {len(lines.train)} to train, {len(lines.test)} to test", flush=True)
    sizes = {"hidden": asked.hidden, "embedding": asked.embedding}
    vocabulary = len(lines.vocabulary)

    start = time.process_time()
    torch.manual_seed(asked.seed)
    program = text_vae(
        vocabulary,
        lines.shape[0],
        asked.latent_dim,
        word_dropout=asked.word_dropout,
        **sizes,
    )
    program = fitted(program, lines.train.x, asked, FreeBits(asked.free_bits))
    nats = rate(program, lines.test.x)
    print(f"text VAE: {time.process_time() - start:.0f} s of CPU; KL {nats:.2f} nats", flush=True)
    report(f"text VAE, word dropout {asked.word_dropout:g}", program, lines.test.x, asked.particles)

    asked.anneal = 0
    for dropout in asked.baselines:
        start = time.process_time()
        torch.manual_seed(asked.seed)
        baseline = language_model(vocabulary, lines.shape[0], word_dropout=dropout, **sizes)
        baseline = fitted(baseline, lines.train.x, asked, None)
        name = f"no latent, word dropout {dropout:g}"
        print(f"{name}: {time.process_time() - start:.0f} s of CPU", flush=True)
        report(name, baseline, lines.test.x, 2)

    print("\nsamples:")
    torch.manual_seed(asked.seed)
    print("\n".join(lines.vocabulary.decode(simulate(program, 5))))
    print("\nfrom one sentence of the test lines to another, in 11 steps:")
    ends = lines.test.x[:2]
    first, last = lines.vocabulary.decode(ends)
    print("\n".join([f"[{first}]", *lines.vocabulary.decode(path(program, ends)), f"[{last}]"]))


if __name__ == "__main__":
    main()
