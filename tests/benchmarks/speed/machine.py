"""What a machine can do, and what a call takes of it."""

from __future__ import annotations

__all__ = ["clock", "flops_of", "matmul_rate", "one_thread_for_all", "peak_of", "speak_of"]

import ctypes
import gc
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_SIDE, _PRODUCTS = 1024, 9
_BETWEEN_LOOKS = 0.002  # seconds
_STATM = Path("/proc/self/statm")


def one_thread_for_all() -> None:
    """Has JAX compute in one thread where torch does; called before it is imported."""
    if torch.get_num_threads() == 1:
        said = os.environ.get("XLA_FLAGS", "")
        alone = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ["XLA_FLAGS"] = f"{said} {alone}".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def clock() -> float:
    """Seconds: of the processor in one thread, which others at work disturb less, else of the wall.

    Only differences mean anything.
    """
    if torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def matmul_rate() -> float:
    """FLOPs per second of products of two square matrices in single precision: the median."""
    a = torch.randn(_SIDE, _SIDE)
    b = torch.randn(_SIDE, _SIDE)
    out = torch.empty(_SIDE, _SIDE)
    taken = []
    torch.mm(a, b, out=out)
    for _ in range(_PRODUCTS):
        begun = clock()
        torch.mm(a, b, out=out)
        taken.append(clock() - begun)
    return 2 * _SIDE**3 / statistics.median(taken)


class _Counting(TorchDispatchMode):
    """Counts FLOPs. Torch's own counter also follows modules, by hooks that second gradients lack.

    Attributes:
        total: Those of all products and convolutions so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def flops_of(call: Callable[[], Any]) -> tuple[float, Any]:
    """The FLOPs of the products and convolutions of a call, backward ones too, and what it returns.

    Args:
        call: What calls torch operation by operation: what is compiled is not seen.
    """
    with _Counting() as counting:
        result = call()
    return float(counting.total), result


def peak_of(call: Callable[[], Any]) -> int | None:
    """The most bytes of anonymous memory that a call holds beyond what was held before it.

    None where the system does not tell. What a call takes for less than two milliseconds may be
    overlooked.
    """
    if not _STATM.exists():
        call()
        return None
    _give_back_free_memory()
    before = _anonymous()
    seen = [before]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_BETWEEN_LOOKS):
            seen.append(_anonymous())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        call()
        seen.append(_anonymous())
    finally:
        is_over.set()
        watching.join()
    return max(seen) - before


def _give_back_free_memory() -> None:
    """Has the C library return what it keeps for later, so that it is counted where it is used."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _anonymous() -> int:
    """Bytes of resident memory that no file stands for."""
    _, resident, shared, *_ = _STATM.read_text().split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def speak_of() -> dict[str, Any]:
    """What figures depend on: versions, processor, threads, how busy it is."""
    return {
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "matmul_rate": matmul_rate(),
    }
