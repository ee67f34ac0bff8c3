"""Lossless compression by a program and its guide: bits back with asymmetric numeral systems."""

from __future__ import annotations

__all__ = ["compress", "decompress"]

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.contexts import (
    evaluating,
    expect_program,
    explained,
    forked,
    guide_of,
    reproducible,
)
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.checks import needs_all_data
from ppl_gen.inference.compression.compressed import Compressed, expect_note
from ppl_gen.inference.compression.masses import Coder
from ppl_gen.inference.compression.networks import Networks, digest_of_weights
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.progress import Bar
from ppl_gen.protocols import Guide, Program

_WORD = 32  # bits
_RESERVE = 32  # initial bits beyond those of the first latents
_SINGLES = 8  # data that are first put on the stack one by one
_MOST_GROWTH = 2**16 - 1
_LEAST_PRECISION = 4
_MOST_PRECISION = 22


def compress(
    program: Program,
    x: Tensor,
    *,
    guide: Guide | None = None,
    precision: int = 16,
    note: str = "",
    progress: bool = False,
) -> Compressed:
    """Data in −ELBO(x)/log 2 bits each: E_q[−log₂ p(x | z) − log₂ p(z) + log₂ q(z | x)].

    For each datum a latent z is drawn from q(z | x) by taking bits off a stack, −log₂ q(z | x) of
    them; then x is put on it under p(x | z), and z under p(z). Whoever takes both off again knows
    what q(z | x) is, and puts the former bits back: nothing of them is lost, and a datum takes up
    the difference. The data lie one on another, so that bits for the first latents alone have to be
    there from the beginning: `initial_bits`, about D P. Latents of many data are drawn at once, as
    soon as the stack has bits for them.

    A latent is one of 2ᴾ bins of equal prior mass, which costs nothing as long as q(z | x) is wider
    than a bin: of a VAE of twenty latents the 10,000 binarised test digits of MNIST take 147.9 bits
    each at P = 8, 12 and 16, and −ELBO/log 2 is 147.92 ± 0.05.

    Args:
        program: p, without a context: one flat continuous latent z (N, D) under a prior with
            quantiles, such as the standard normal, and a likelihood of independent entries that
            lists its values, such as Bernoulli, Categorical or DiscretizedLogistic.
        x: Data (N, *shape), on the processor, each entry one of these values.
        guide: q(z | x), a diagonal Gaussian; `program.guide` if left out.
        precision: P, bits of a latent, from 4 to 22.
        note: What whoever decompresses is to know besides.
        progress: Whether to show a progress bar.

    Returns:
        The data as bits, which `decompress` gives back; `.to_bytes()` is what a file holds.

    Raises:
        ValueError: If the program has no such latent, prior, guide or likelihood, data have other
            values, or program, guide and data do not fit together.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> x = torch.rand(20, 4).round()
        >>> compressed = compress(vae, x)
        >>> bool((decompress(vae, compressed) == x).all())
        True

    Reference:
        Townsend, Bird and Barber (2019), Practical lossless compression with latent variables using
        bits back coding; Hinton and van Camp (1993), Keeping the neural networks simple by
        minimizing the description length of the weights; Duda (2009), Asymmetric numeral systems.
    """
    expect_program(program)
    guide = guide_of(program, guide)
    _expect_precision(precision)
    expect_note(note)
    check_by_datum(program, guide, x)
    _expect_sound(guide, x)
    with _the_same_bits(program, guide):
        networks = Networks(program, guide, x.shape[1:], x.dtype, rows=None, precision=precision)
        symbols = networks.values.symbols(x)
        initial = _initial_words(networks)
        coder = Coder(initial, sealed=False)
        growth = _push_all(coder, networks, x, symbols, progress)
        arithmetic = networks.digest()
    return Compressed(
        words=coder.words(),
        count=len(x),
        shape=tuple(x.shape[1:]),
        dtype=str(x.dtype).removeprefix("torch."),
        latents=networks.bins.width,
        precision=precision,
        rows=networks.rows,
        growth=growth,
        initial_words=len(initial),
        weights=digest_of_weights(program, guide),
        arithmetic=arithmetic,
        note=note,
    )


def decompress(
    program: Program,
    compressed: Compressed | bytes,
    *,
    guide: Guide | None = None,
    progress: bool = False,
) -> Tensor:
    """The data that `compress` was given, to the last bit.

    They come back only where networks give the same numbers to the last bit: with the same weights,
    on a processor of the same kind under the same torch. Both are compared before anything is
    decoded, and the bits that are left in the end with the initial ones.

    Args:
        program: The program that they were compressed with.
        compressed: What `compress` gave, or the bytes of it.
        guide: The guide that they were compressed with; `program.guide` if left out.
        progress: Whether to show a progress bar.

    Returns:
        Data (N, *shape).

    Raises:
        ValueError: If the bytes are no compressed data, are cut short or damaged, or the program
            has other weights, or its networks put out other numbers than where they were
            compressed.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> x = torch.rand(20, 4).round()
        >>> bool((decompress(vae, compress(vae, x).to_bytes()) == x).all())
        True
    """
    expect_program(program)
    guide = guide_of(program, guide)
    if isinstance(compressed, bytes):
        compressed = Compressed.from_bytes(compressed)
    weights = digest_of_weights(program, guide)
    if weights != compressed.weights:
        raise ValueError(
            f"expected the program that the data were compressed with, of weights "
            f"{compressed.weights.hex()}, got one of weights {weights.hex()}; load those"
        )
    memory.expect_memory(
        f"{compressed.count} data",
        8 * compressed.count * math.prod(compressed.shape),
        "decompress where there is more",
    )
    with _the_same_bits(program, guide), explained("the data of this program", _AGAIN):
        networks = Networks(
            program,
            guide,
            compressed.shape,
            getattr(torch, compressed.dtype),
            rows=compressed.rows,
            precision=compressed.precision,
        )
        _expect_same_numbers(networks.digest(), compressed.arithmetic)
        coder = Coder(compressed.words, sealed=True)
        x = _pop_all(coder, networks, compressed, progress)
        left = coder.unsealed()
        if left is None or not np.array_equal(left, _initial_words(networks)):
            raise ValueError(
                "expected the initial bits to be left when all data are decoded, got others: the "
                f"networks put out other numbers on the way than where they were compressed; "
                f"{_ELSEWHERE}"
            )
    return x


_AGAIN = "compress them anew with it"
_ELSEWHERE = (
    "decompress where the data were compressed, or on a processor of the same kind with the same "
    "versions of torch and constriction"
)


def _push_all(coder: Coder, networks: Networks, x: Tensor, symbols: Tensor, progress: bool) -> int:
    """Puts data on the stack, a batch after another; the growth of batches that it has chosen."""
    growth = _SINGLES
    at_first = coder.bits
    done = 0
    with Bar(shown=progress) as bar:
        task = bar.add_task("compressing", total=len(x))
        while done < len(x):
            if done == _SINGLES:
                growth = _growth(coder.bits - at_first, networks)
            count = _size(done, growth, networks.rows, len(x))
            rows = slice(done, done + count)
            posterior = networks.posterior(x[rows])
            index = networks.bins.pop_posterior(coder, posterior)
            networks.values.push(coder, networks.likelihood(index), symbols[rows])
            networks.bins.push(coder, index)
            done += count
            bar.advance(task, count)
    return growth


def _pop_all(coder: Coder, networks: Networks, held: Compressed, progress: bool) -> Tensor:
    """Takes data off the stack, the last batch first, and puts the bits of their latents back."""
    sizes = []
    done = 0
    while done < held.count:
        sizes.append(_size(done, held.growth, networks.rows, held.count))
        done += sizes[-1]
    batches = []
    with Bar(shown=progress) as bar:
        task = bar.add_task("decompressing", total=held.count)
        for size in reversed(sizes):
            index = networks.bins.pop(coder, size)
            likelihood = networks.likelihood(index)
            symbols = networks.values.pop(coder, likelihood, networks.unknown[:size])
            x = networks.values.values[symbols]
            networks.bins.push_posterior(coder, networks.posterior(x), index)
            batches.append(x)
            bar.advance(task, size)
    return torch.cat(batches[::-1])


def _size(done: int, growth: int, rows: int, total: int) -> int:
    """The size of the next batch: a share of the data that are done, whose bits pay for latents."""
    return min(max(done // growth, 1), rows, total - done)


def _growth(gained: int, networks: Networks) -> int:
    """How many data have to be done for one more in a batch, by the bits of the first.

    The latents of a batch then take half of the stack at most.
    """
    needed = networks.bins.width * networks.bins.precision
    each = max(gained / _SINGLES, 1)
    return min(max(math.ceil(2 * needed / each), _SINGLES), _MOST_GROWTH)


@contextmanager
def _the_same_bits(program: Program, guide: Guide) -> Iterator[None]:
    """Evaluation mode in which the same call gives the same bits, and draws leave no trace."""
    with forked(torch.device("cpu"), 0), evaluating(program, guide), reproducible():
        yield


def _initial_words(networks: Networks) -> np.ndarray:
    """Bits without pattern, for the latents of the first datum: the same for everybody."""
    bits = networks.bins.width * networks.bins.precision + _RESERVE
    count = -(-bits // _WORD)
    drawn = hashlib.shake_256(b"initial bits").digest(count * _WORD // 8)
    return np.frombuffer(drawn, dtype="<u4").astype(np.uint32)


def _expect_precision(precision: int) -> None:
    """Raises ValueError unless the bits of a latent are a whole number that the coder can take."""
    expect_at_least(_LEAST_PRECISION, precision=precision)
    if precision > _MOST_PRECISION:
        raise ValueError(
            f"expected precision from {_LEAST_PRECISION} to {_MOST_PRECISION} bits, got {precision}"
        )


def _expect_sound(guide: Guide, x: Tensor) -> None:
    """Raises ValueError if data cannot be taken in batches on the processor."""
    if x.device.type != "cpu":
        raise ValueError(
            f"expected data and program on the processor, whose numbers are the same every time, "
            f"got {x.device}; say .cpu() of both"
        )
    if x.dim() < 2:
        raise ValueError(
            f"expected data (N, *shape), got shape {tuple(x.shape)}; give each datum an axis, as "
            "x[:, None] has it, and take a program of such data"
        )
    if needs_all_data(guide):
        raise ValueError(
            f"expected a guide that is a function of the data, got {type(guide).__name__}, which "
            "holds a posterior for each datum; take a program with an encoder"
        )


def _expect_same_numbers(now: bytes, then: bytes) -> None:
    """Raises ValueError unless networks put out what they did where data were compressed."""
    if now != then:
        raise ValueError(
            f"expected networks that put out the same numbers to the last bit as where the data "
            f"were compressed (checksum {then.hex()}), got others (checksum {now.hex()}): another "
            f"kind of processor, or another version of torch or constriction; {_ELSEWHERE}"
        )
