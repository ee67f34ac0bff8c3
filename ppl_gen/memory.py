"""How much is computed at once, and whether what is asked for fits into memory at all.

Where a program is run on many data or at many draws, they are taken in chunks, so that memory stays
bounded and, on a processor, what is worked on stays in its cache. Every budget is a number of
tensor entries, here and nowhere else. What cannot be cut, such as the weights of a network, is
estimated before it is made (`expect_memory`).
"""

from __future__ import annotations

__all__ = [
    "DIAGNOSED",
    "FEATURES",
    "INNER_AVERAGES",
    "KERNEL_VALUES",
    "MIXTURE_VALUES",
    "PERMUTED",
    "POSTERIOR_PAIRS",
    "SAMPLED",
    "SCORED",
    "SINGLE",
    "STREAMED",
    "VECTORISED",
    "Budget",
    "available",
    "expect_memory",
    "expect_weights",
    "in_bytes",
    "is_exhausted",
    "pairs",
    "rows",
    "shortage",
]

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ppl_gen.counts import expect_at_least


class Budget(NamedTuple):
    """Entries that may be in work at once on a processor and on a CUDA device."""

    cpu: int
    cuda: int

    def on(self, device: torch.device) -> int:
        """The budget of a device."""
        if device.type == "cuda":
            return self.cuda
        return self.cpu


# One pass of model and guide over (draw, datum) pairs: evidence, calibration, collapse.
SCORED = Budget(cpu=2**21, cuda=2**26)
# One layer of a program for all chains of some data: HMC and annealing, datum by datum.
SAMPLED = Budget(cpu=2**20, cuda=2**26)
# A function of one draw, followed by vmap over many.
VECTORISED = 2**22
# Draws whose effective sample size or R̂ is computed in one go.
DIAGNOSED = 2**24
# Values computed in all for the inner averages of a predictive density, before their error is
# taken as it is.
INNER_AVERAGES = 2**28
# Values of a kernel between two samples.
KERNEL_VALUES = 2**23
# Features of permuted points whose moments are taken in one go.
PERMUTED = 2**18
# Densities of the draws of one posterior under the posteriors of all data.
POSTERIOR_PAIRS = 2**26
MIXTURE_VALUES = 2**22
# Pixels whose features are computed in one go.
FEATURES = 2**20
# Pixels of a data set that are held in memory; a larger one is streamed.
STREAMED = 2**29


# Entries of a pass for a pair of a draw and a datum, for data that are smaller.
_LEAST_WIDTH = 256


def pairs(width: int, device: torch.device) -> int:
    """How many (draw, datum) pairs are scored at once: the default of `chunk` where it counts them.

    Args:
        width: How many numbers the scoring of one datum takes.
        device: Where it is done.
    """
    return rows(SCORED.on(device), max(width, _LEAST_WIDTH))


def rows(budget: int, width: int) -> int:
    """How many rows of `width` entries fit into a budget; at least one."""
    return max(1, budget // max(width, 1))


# Bytes that are asked for without a look at what is free: reading that takes a while.
_LITTLE = 2**26

SINGLE = 4  # bytes of a number in single precision
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")

# What torch and NumPy say where a size is beyond memory, or beyond 64 bits.
_EXHAUSTED = (
    "can't allocate memory",
    "not enough memory",
    "CUDA out of memory",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
    "Overflow when unpacking long",
    "Python int too large to convert",
    "int too big to convert",
    "array is too big",
    "Maximum allowed dimension exceeded",
)


def expect_memory(
    what: str, needed: int, remedy: str, device: torch.device | str | None = None
) -> None:
    """Raises ValueError, before work starts, if something takes more bytes than are free.

    Args:
        what: What takes them, in the plural: "weights of a network".
        needed: An estimate of the bytes, from below: what is sure to be held at one time.
        remedy: What to do about it: "take fewer chains".
        device: Where they are held; the processor's memory if None.
    """
    if needed <= _LITTLE:
        return
    free = available(device)
    if needed > free:
        raise ValueError(
            f"expected {what} to fit into memory, of which {in_bytes(free)} are free, got "
            f"{in_bytes(needed)}; {remedy}"
        )


def expect_weights(*shapes: Sequence[int]) -> None:
    """Raises ValueError if weights have no whole sizes of at least 0, or do not fit into memory.

    Args:
        *shapes: The shape of the weight of each layer, in single precision.
    """
    for shape in shapes:
        for size in shape:
            expect_at_least(0, **{"a layer's size": size})
    needed = SINGLE * sum(math.prod(shape) for shape in shapes)
    expect_memory(
        "weights of a network",
        needed,
        "take fewer latents (latent_dim=...), narrower layers or smaller images (image_size=...)",
    )


def in_bytes(count: int) -> str:
    """A number of bytes for people: "3.2 GB".

    Args:
        count: The number.
    """
    power = 0
    while power < len(_UNITS) - 1 and count >= 1000 ** (power + 1):
        power += 1
    if power == 0:
        return f"{count} bytes"
    return f"{count / 1000**power:.3g} {_UNITS[power]}"


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory has run out, or that a size is none that a tensor can have.

    Args:
        error: Of Python, NumPy or torch, whose allocators have no class of error in common.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)
    return any(words in said for words in _EXHAUSTED)


def shortage(error: BaseException) -> str:
    """What is to be said of an error that `is_exhausted` knows: what was wanted, and a remedy.

    Args:
        error: Of Python, NumPy or torch.
    """
    wanted = "more than there is"
    if found := re.search(r"allocate (\d+) bytes", str(error)):
        wanted = f"{in_bytes(int(found[1]))} for one array"
    return (
        f"expected what is held at once to fit into memory, got {wanted}; take fewer or smaller: "
        "data, pixels, latents, draws, particles or chains"
    )


def available(device: torch.device | str | None = None) -> int:
    """The bytes that a device has free; swap space counts, what other processes hold does not.

    Args:
        device: A CUDA device; the processor's memory if None or of any other kind.

    Returns:
        The least of what the machine, the control group (of a container or a scheduler) and the
        limit of the process leave; a number beyond any memory where none of them is known.
    """
    if device is not None and torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    left = min(_free_of_machine(), _free_of_process())
    for groups in (_FIRST, _SECOND):
        left = min(left, _free_of_group(groups, _group_of_process(groups)))
    return max(0, left)


def _free_of_machine() -> int:
    """What /proc/meminfo says; all physical memory where there is no such file."""
    held = _fields(Path("/proc/meminfo"))
    if "MemAvailable:" in held:
        return 1024 * (held["MemAvailable:"] + held.get("SwapFree:", 0))
    return sys.maxsize


class _Groups(NamedTuple):
    """How Linux keeps the memory of control groups, in one of its two versions.

    Attributes:
        top: The folder of the uppermost group.
        mark: What stands before the name of a process's group in /proc/self/cgroup.
        most: The file of the limit.
        held: The file of what is in use, files that are kept in memory included.
        files: The field of memory.stat with those of the files that are given back when asked for.
    """

    top: Path
    mark: str
    most: str
    held: str
    files: str


_SECOND = _Groups(
    top=Path("/sys/fs/cgroup"),
    mark="0::/",
    most="memory.max",
    held="memory.current",
    files="inactive_file",
)
_FIRST = _Groups(
    top=Path("/sys/fs/cgroup/memory"),
    mark=":memory:/",
    most="memory.limit_in_bytes",
    held="memory.usage_in_bytes",
    files="total_inactive_file",
)


def _free_of_group(groups: _Groups, own: Path) -> int:
    """What the limits of a control group and of those above it leave.

    Args:
        groups: How they are kept.
        own: The folder of the group.
    """
    left = sys.maxsize
    for group in (own, *own.parents):
        most = _number(group / groups.most)
        held = _number(group / groups.held)
        if most is not None and held is not None:
            files = _fields(group / "memory.stat").get(groups.files, 0)
            left = min(left, most - held + files)
        if group == groups.top:
            break
    return left


def _group_of_process(groups: _Groups) -> Path:
    """The folder of the control group of this process; the uppermost where it is not known."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, mark, name = line.partition(groups.mark)
        if mark:
            return groups.top / name
    return groups.top


def _free_of_process() -> int:
    """What a limit of the process's address space (`ulimit -v`) leaves."""
    try:
        import resource
    except ImportError:  # not on Windows
        return sys.maxsize
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return sys.maxsize
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return most
    return most - pages * resource.getpagesize()


def _fields(path: Path) -> dict[str, int]:
    """The lines "name number …" of a file that the system keeps; none where it cannot be read."""
    found = {}
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    for line in lines:
        name, *rest = line.split()
        if rest and rest[0].isdecimal():
            found[name] = int(rest[0])
    return found


def _number(path: Path) -> int | None:
    """The number in a file that the system keeps; None where there is none, or "max"."""
    try:
        said = path.read_text().strip()
    except OSError:
        return None
    if said.isdecimal():
        return int(said)
    return None
