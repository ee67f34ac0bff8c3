"""What a slot of a program returns: which of a user's parts is no Conditional, and why."""

from __future__ import annotations

__all__ = ["blaming_slots", "expect_rows", "likelihood_hint"]

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ppl_gen.contexts import owner, reason
from ppl_gen.likelihoods.parameters import parameters_per_value
from ppl_gen.protocols import Distribution
from ppl_gen.supports import unwrapped

_REMEDY = "return a distribution of pyro.distributions"


@contextmanager
def blaming_slots(program: Any, args: Sequence[Any]) -> Iterator[None]:
    """Turns a ValueError raised inside into one that names a slot, where one is to blame.

    Args:
        program: Whatever owns a model: its slots are `prior`, `decoder`, `likelihood`, `encoder`.
        args: Data x (N, *shape), or None, and the context.

    Raises:
        ValueError: If one is raised inside.
    """
    try:
        yield
    except ValueError as error:
        if flaw := _flaw_of_slots(program, args):
            raise ValueError(flaw) from error
        raise


def expect_rows(program: Any, args: Sequence[Any]) -> None:
    """Raises ValueError if a likelihood makes one row of many, which plates would broadcast.

    All data would be scored by what belongs to one of them.

    Args:
        program: Whatever owns a model: its slots are `prior`, `decoder`, `likelihood`.
        args: Data x (N, *shape), which the model can be run on, and the context.
    """
    x, *context = args
    prior, flaw = _called(program, "prior", context)
    if prior is None or flaw:
        return
    z, _ = _drawn(_one_per_datum(prior, len(x)))
    if z is None:
        return
    decoded, _ = _decoded(program, [z, *context])
    if decoded is None:
        return
    fn, _ = _called(program, "likelihood", [decoded])
    if fn is not None and _is_one_for_all(fn, decoded, x):
        raise ValueError(_flaw_of_event(program, fn, decoded, x))


def likelihood_hint(program: Any) -> str:
    """What to say of a user's own likelihood that may take several numbers per value, if any.

    Args:
        program: A program, or its model or guide.
    """
    likelihood = getattr(owner(program), "likelihood", None)
    if likelihood is None or hasattr(likelihood, "parameters_per_value"):
        return ""
    if _is_of_library(likelihood):
        return ""
    return (
        "if the likelihood takes P numbers per value (such as a mean and a scale), say so before "
        "the program is built: likelihood.parameters_per_value = P gives it decoder outputs of "
        "shape (N, *shape, P)"
    )


def _flaw_of_slots(program: Any, args: Sequence[Any]) -> str:
    """What is wrong with the first part of a program that returns no distribution of one event.

    Each part is called by itself, in the order in which a model calls them.

    Args:
        program: Whatever owns a model: its slots are `prior`, `decoder`, `likelihood`, `encoder`.
        args: Data x (N, *shape), or None, and the context.

    Returns:
        One sentence; empty if the parts return what they should, or stop by themselves.
    """
    x, *context = args or [None]
    prior, flaw = _called(program, "prior", context)
    if flaw:
        return flaw
    rows = [len(c) for c in args if torch.is_tensor(c) and c.dim() > 0]
    flaw = _flaw_of_latent("prior", prior, ()) or _flaw_of_rows(prior, rows[:1])
    if flaw:
        return flaw
    stopped = ""
    if prior is not None:
        z, flaw = _drawn(_one_per_datum(prior, (rows or [1])[0]))
        if flaw:
            return flaw
        decoded, stopped = _decoded(program, [z, *context])
        if decoded is not None:
            fn, flaw = _called(program, "likelihood", [decoded])
            flaw = flaw or _flaw_of_likelihood(program, fn, decoded, x)
            if flaw:
                return flaw
    if not torch.is_tensor(x):
        return stopped
    encoder, flaw = _called(program, "encoder", [x, *context])
    flaw = flaw or _flaw_of_latent("encoder", encoder, x.shape[:1])
    return flaw or _flaw_of_dimensions(prior, encoder) or stopped


def _drawn(prior: Any) -> tuple[Any, str]:
    """A draw of a prior, or what is wrong with it; the generator is left as it was."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return prior(), ""
    except Exception as error:  # what a user's part, or a library's, may raise
        return None, (
            f"expected draws of the prior {type(prior).__name__}, got {_said(error)}; build it for "
            "the context that it is given"
        )


def _decoded(program: Any, args: Sequence[Any]) -> tuple[Any, str]:
    """What the decoder makes of draws of the prior, or what is wrong with these."""
    decoder = getattr(program, "decoder", None)
    if not callable(decoder):
        return None, ""
    try:
        with torch.no_grad():
            return decoder(*args), ""
    except Exception as error:  # what a user's network may raise
        if _says_itself(error):
            return None, ""
        return None, (
            f"expected the decoder to take draws of the prior, of shape {tuple(args[0].shape)}, "
            f"got {_said(error)}; give prior, decoder and encoder one latent dimension"
        )


def _says_itself(error: Exception) -> bool:
    """Whether an error is one of the library's, which say what was expected."""
    return isinstance(error, ValueError) and str(error).startswith("expected")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {reason(error)}"


def _flaw_of_dimensions(prior: Any, encoder: Any) -> str:
    """What is wrong with the shapes of one latent in prior and encoder, taken together."""
    if prior is None or encoder is None or prior.event_shape == encoder.event_shape:
        return ""
    return (
        f"expected one latent dimension, got draws of shape {tuple(prior.event_shape)} from the "
        f"prior and {tuple(encoder.event_shape)} from the encoder; build both for the dimension "
        "that the decoder takes"
    )


def _one_per_datum(prior: Any, rows: int) -> Any:
    """A prior of so many latents, if it does not have them by its context."""
    if prior.batch_shape:
        return prior
    return prior.expand((rows,))


def _output(program: Any, slot: str, args: Sequence[Any]) -> tuple[Any, bool]:
    """What a slot returns, and whether it was called; None where it stops by itself."""
    part = getattr(program, slot, None)
    if not callable(part):
        return None, False
    try:
        with torch.no_grad():
            return part(*args), True
    except Exception:  # what a user's part may raise; whoever called the program says it
        return None, False


def _called(program: Any, slot: str, args: Sequence[Any]) -> tuple[Any, str]:
    """The distribution that a slot returns, or what is wrong with it."""
    returned, was_called = _output(program, slot, args)
    if not was_called or isinstance(returned, Distribution):
        return returned, ""
    if hasattr(returned, "log_prob"):
        got = f"{type(returned).__module__}.{type(returned).__name__}"
    elif isinstance(returned, Tensor):
        got = f"a tensor of shape {tuple(returned.shape)}"
    else:
        got = f"a {type(returned).__name__}"
    return None, f"expected the {slot} to return a distribution, got {got}; {_REMEDY}"


def _flaw_of_latent(slot: str, fn: Any, rows: Sequence[int]) -> str:
    """What is wrong with the axes of a distribution of latents, of which each datum has one.

    Args:
        slot: Where it stands: "prior".
        fn: The distribution, None if there is none.
        rows: Its batch shape, as it should be.
    """
    if fn is None or fn.event_shape or len(fn.batch_shape) != len(rows) + 1:
        return ""
    return (
        f"expected the {slot} to return one event for each datum, got {type(fn).__name__} of "
        f"batch shape {tuple(fn.batch_shape)}, whose last axis counts as data; say .to_event(1)"
    )


def _flaw_of_rows(prior: Any, rows: Sequence[int]) -> str:
    """What is wrong with the number of latents of a prior: one for all data, or one for each."""
    if prior is None or tuple(prior.batch_shape) in ((), (1,), tuple(rows)):
        return ""
    return (
        f"expected the prior to return one event for each datum, got {type(prior).__name__} of "
        f"batch shape {tuple(prior.batch_shape)} and event shape {tuple(prior.event_shape)}; give "
        "it one for each datum, or one for all"
    )


def _flaw_of_likelihood(program: Any, fn: Any, decoded: Any, x: Any) -> str:
    """What is wrong with the axes of a likelihood, rather than with those of the data.

    A likelihood of the library keeps the values of its decoder, and so does one of the user's own
    whose distribution has their shape: then the data are of another.

    Args:
        program: Whatever owns the slots.
        fn: What its likelihood returned, None if nothing.
        decoded: What its decoder returned.
        x: Data, (N, *shape), or None.
    """
    if fn is None or not torch.is_tensor(x) or x.dim() == 0:
        return ""
    if _is_one_for_all(fn, decoded, x):
        return _flaw_of_event(program, fn, decoded, x)
    right = (tuple(x.shape), _shape_of_values(program, decoded))
    if fn.batch_shape and (_is_of_library(program.likelihood) or _shape(fn) in right):
        return ""
    return _flaw_of_event(program, fn, decoded, x)


def _is_one_for_all(fn: Any, decoded: Any, x: Tensor) -> bool:
    """Whether a likelihood has one row, where its decoder has one for each of several data."""
    rows = len(x)
    if rows == 1 or not torch.is_tensor(decoded) or decoded.shape[:1] != (rows,):
        return False
    return tuple(fn.batch_shape[:1]) == (1,)


def _shape(fn: Any) -> tuple[int, ...]:
    """The shape of the draws of a distribution."""
    return (*fn.batch_shape, *fn.event_shape)


def _shape_of_values(program: Any, decoded: Any) -> tuple[int, ...]:
    """The shape of the data that a decoder was built for; empty where that is not known."""
    if not torch.is_tensor(decoded):
        return ()
    if parameters_per_value(program.likelihood) > 1:
        return tuple(decoded.shape[:-1])
    return tuple(decoded.shape)


def _is_of_library(part: Any) -> bool:
    return type(part).__module__.startswith("ppl_gen.")


def _flaw_of_event(program: Any, fn: Any, decoded: Any, x: Tensor) -> str:
    """That a likelihood has other axes than the data, and what to do."""
    given = ""
    if torch.is_tensor(decoded):
        given = f", of shape {tuple(decoded.shape)}"
    flaw = (
        f"expected the likelihood to return one event of shape {tuple(x.shape[1:])} for each "
        f"datum, got {type(unwrapped(fn)).__name__} of batch shape {tuple(fn.batch_shape)} and "
        f"event shape {tuple(fn.event_shape)}; keep the axes of what the decoder gives{given}, "
        "its rows first"
    )
    if not fn.batch_shape and fn.event_shape == x.shape:
        return f"{flaw}: its `.to_event` takes the data axis too"
    if fn.batch_shape[:1] != x.shape[:1]:
        return f"{flaw} (.expand to them where it ignores z)"
    if hint := likelihood_hint(program):
        return f"{flaw}; {hint}"
    return flaw
