"""Memory stays as it is, however often an evaluator is called, by every engine."""

from __future__ import annotations

import gc
import inspect
import itertools
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from calls import SEEDED

from ppl_gen import inference

# Of the library, whatever engine computes it. Results of statistics are made of torch alone.
EVALUATORS = [name for name in SEEDED if name.startswith("inference.")]
FUNCTIONS = {name: getattr(inference, name.rsplit(".", 1)[-1], None) for name in EVALUATORS}
BY_ENGINE = [
    name
    for name, function in FUNCTIONS.items()
    if function is not None and "engine" in inspect.signature(function).parameters
]
CALLS = {"eager": 300, "fx": 300, "inductor": 20}
WARM = {"eager": 50, "fx": 50, "inductor": 5}
# MiB that the process may grow by from there to the last call. What torch keeps of each graph that
# it compiles, in caches of its own, is up to 0.1.
GROWTH = {"eager": 8, "fx": 16, "inductor": 32}
PARTS = 3  # of the calls: memory that leaks does so in each, and a heap that is made larger in one


def tensors() -> int:
    """How many are alive."""
    gc.collect()
    gc.collect()  # what finalisers of the first let go
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def resident() -> float:
    """The memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def flat(name: str, engine: str | None) -> str:
    """Calls an evaluator again and again; says what has grown, and nothing if nothing has."""
    options = {}
    if engine is not None:
        options["engine"] = engine
    kind = engine or "eager"
    for seed in range(WARM[kind]):
        SEEDED[name](seed, **options)
    before = tensors()
    memory = [resident()]
    length = (CALLS[kind] - WARM[kind]) // PARTS
    for first in range(WARM[kind], CALLS[kind] - length + 1, length):
        for seed in range(first, first + length):
            SEEDED[name](seed, **options)
        memory.append(resident())
    grown = tensors() - before
    more = PARTS * min(after - first for first, after in itertools.pairwise(memory))
    print(f"{name}, {kind}: {before} tensors + {grown}, {memory[0]:.0f} MiB + {more:.1f}")
    if grown > 0 or more > GROWTH[kind]:
        return f"{name}, {kind}: {grown} tensors and {more:.1f} MiB from {WARM[kind]} calls on"
    return ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to ask")
@pytest.mark.parametrize("name", [name for name in EVALUATORS if name not in BY_ENGINE])
def test_memory_is_flat(name: str) -> None:
    assert not flat(name, None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to ask")
@pytest.mark.parametrize("engine", CALLS)
@pytest.mark.parametrize("name", BY_ENGINE)
def test_memory_is_flat_by_every_engine(name: str, engine: str) -> None:
    assert not flat(name, engine)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_is_compiled_goes_with_the_call() -> None:
    """Two compilations are enough to see tensors stay, as 42 of a call did."""
    call = SEEDED["inference.evidence.ais.ais"]
    call(0, engine="inductor")
    before = tensors()
    call(1, engine="inductor")
    assert tensors() == before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to ask")
def test_data_in_a_file_are_never_held() -> None:
    """Moments of 31 MB of bytes, whose numbers are 250 MB, in well under what these would take."""
    script = Path(__file__).parents[1] / "benchmarks" / "memory_table.py"
    asked = ["--images=40000", "--rows", "moments-of-tensor", "--limit=0.7"]
    subprocess.run([sys.executable, script, *asked], check=True)
