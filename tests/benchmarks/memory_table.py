"""Anonymous memory and seconds of what is asked of data that need not fit into memory.

    python tests/benchmarks/memory_table.py
    python tests/benchmarks/memory_table.py --images 20000 --evidence 200 --particles 50

A file of random bytes, (images, 784), is written into a folder that goes again, and mapped by all
but the evidence, which is of data in memory. Each row is a process of its own, whose anonymous
memory (RssAnon of Linux: what cannot be dropped, unlike pages of a file) is looked at by another,
every 20 ms. `imports` is what a process has that does nothing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 784
EVERY = 0.02  # seconds between two looks
AT_ONCE = 10_000  # rows that are written in one go
DRAWS = 10_000  # points of the sample that the file is compared with


def imports(asked: argparse.Namespace) -> None:
    """Nothing beyond what all have in common."""
    import ppl_gen.data
    import ppl_gen.inference
    import ppl_gen.models  # noqa: F401


def moments_of_tensor(asked: argparse.Namespace) -> None:
    """All moments of the file as a tensor of bytes."""
    import torch

    from ppl_gen.inference import moments

    mapped = np.load(asked.file, mmap_mode="c")
    moments(_drawn(asked), torch.from_numpy(mapped), permutations=0)


def moments_of_batches(asked: argparse.Namespace) -> None:
    """All moments of what is trained on of the file, in batches."""
    from ppl_gen.inference import moments

    moments(_drawn(asked) / 255, _train(asked).batches(2000, shuffle=False))


def an_epoch(asked: argparse.Namespace) -> None:
    """An epoch of fitting to the file, shuffled."""
    import torch

    from ppl_gen.inference import iterate, svi_step

    program = _vae(asked)
    step = svi_step(program, torch.optim.Adam(program.parameters()))
    for _ in iterate(step, _train(asked, "dynamic").batches(500), epochs=1):
        pass


def bound(asked: argparse.Namespace) -> None:
    """The ELBO of what is trained on of the file, in batches, by one particle."""
    from ppl_gen.inference import elbo

    batches = _train(asked, "threshold").batches(2000, shuffle=False)
    elbo(_vae(asked), None, batches, particles=1, seed=0)


def evidence(asked: argparse.Namespace) -> None:
    """Importance-weighted evidence of data in memory."""
    import torch

    from ppl_gen.inference import log_evidence

    x = torch.rand(asked.evidence, 1, 28, 28).round_()
    log_evidence(_vae(asked), None, x, particles=asked.particles, seed=0)


ROWS: dict[str, Callable[[argparse.Namespace], None]] = {
    "imports": imports,
    "moments-of-tensor": moments_of_tensor,
    "moments-of-batches": moments_of_batches,
    "epoch": an_epoch,
    "elbo-of-batches": bound,
    "evidence": evidence,
}


def _train(asked: argparse.Namespace, binarize: str | None = None) -> Any:
    from ppl_gen.data import load

    return load(asked.file, stream=True, binarize=binarize).train


def _drawn(asked: argparse.Namespace) -> Any:
    import torch

    own = torch.Generator().manual_seed(1)
    count = min(DRAWS, asked.images)
    drawn = torch.randint(0, 256, (count, WIDTH), dtype=torch.uint8, generator=own)
    return drawn.float()


def _vae(asked: argparse.Namespace) -> Any:
    import torch

    from ppl_gen.models import vae

    torch.manual_seed(0)
    shape: tuple[int, ...] = (WIDTH,)
    if asked.row == "evidence":
        shape = (1, 28, 28)
    return vae(shape, asked.latent_dim, hidden=(asked.hidden,) * 2)


def write(file: Path, images: int) -> None:
    """Random bytes, a part at a time, so that this process does not hold them.

    Args:
        file: A .npy file.
        images: How many rows.
    """
    numbers = np.random.default_rng(0)
    mapped = np.lib.format.open_memmap(file, "w+", np.uint8, (images, WIDTH))
    for start in range(0, images, AT_ONCE):
        some = mapped[start : start + AT_ONCE]
        some[:] = numbers.integers(0, 256, some.shape, np.uint8)
    mapped.flush()


def anonymous(process: int) -> int:
    """The anonymous memory of a process in bytes; 0 where it has ended.

    Args:
        process: Its number.
    """
    try:
        said = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"RssAnon:\s+(\d+) kB", said)
    if found is None:
        return 0
    return 1024 * int(found[1])


def measured(words: list[str]) -> tuple[int, float]:
    """The most anonymous memory that a call of this script had, in bytes, and its seconds.

    Args:
        words: Its options.
    """
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, __file__, *words])
    most = 0
    while child.poll() is None:
        most = max(most, anonymous(child.pid))
        time.sleep(EVERY)
    if child.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {child.returncode}")
    return most, time.perf_counter() - start


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--evidence", type=int, default=10_000, help="data whose evidence is told")
    parser.add_argument("--particles", type=int, default=5000)
    parser.add_argument("--hidden", type=int, default=64, help="width of two hidden layers")
    parser.add_argument("--latent-dim", type=int, default=10)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--limit", type=float, default=2.0, help="GiB that no row may exceed")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    asked = parsed()
    if asked.row is not None:
        ROWS[asked.row](asked)
        return
    sizes = [
        f"--{name}={getattr(asked, name.replace('-', '_'))}"
        for name in ("images", "evidence", "particles", "hidden", "latent-dim")
    ]
    beyond = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.npy"
        write(file, asked.images)
        print(f"{asked.images} x {WIDTH} bytes; evidence of {asked.evidence} x {asked.particles}")
        print(f"{'':20} {'MiB anonymous':>13} {'seconds':>8}")
        for row in asked.rows:
            most, seconds = measured([*sizes, f"--file={file}", f"--row={row}"])
            print(f"{row:20} {most / 2**20:13.0f} {seconds:8.1f}", flush=True)
            if most > asked.limit * 2**30:
                beyond.append(row)
    if beyond:
        raise SystemExit(f"more than {asked.limit:g} GiB: {', '.join(beyond)}")


if __name__ == "__main__":
    main()
