"""A step in which several optimisers move in turn: one by one, or all moves as one graph."""

from __future__ import annotations

__all__ = ["Play", "Turns", "plan"]

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_gen.contexts import modules_of
from ppl_gen.inference.engine.adam import Adam
from ppl_gen.inference.engine.graphs import Functional, shapes
from ppl_gen.inference.engine.replay import Engine, Replay, expect_engine
from ppl_gen.inference.engine.replay import plan as plan_of_calls
from ppl_gen.ranks import Ranks

# From a batch to tensors by name. It calls `Turns.descend` for every move, and changes nothing else
# but buffers.
Play = Callable[..., Mapping[str, Tensor]]
# Moves a player, by its name, down a loss that is an average over some rows.
Move = Callable[[str, Tensor, int], None]
Failure = Callable[[str, int], Exception]

# A graph of all moves takes 10 to 40 s to compile, and saves one or two milliseconds a step.
_PAYS_AFTER = 20_000


def plan(steps: int, engine: Engine = "auto", device: torch.device | None = None) -> Engine:
    """The engine that pays for this many steps, where `engine` is "auto"; else `engine` itself.

    Args:
        steps: How many there are.
        engine: What was asked for.
        device: Where the tensors lie; the processor if None.
    """
    if engine == "auto" and steps < _PAYS_AFTER:
        return "eager"
    return plan_of_calls(steps, engine, device)


class Turns:
    """θₖ ← θₖ − update(∇ lossₖ(θ)) for one player k after the other, as one step.

    "eager" makes the moves one by one, by the optimisers themselves. The other engines make all of
    them by one graph, Adam's updates included, with the same random numbers and the same weights to
    rounding. "auto" compiles where 20,000 steps or more are to come or were made, and else is
    eager.

    Args:
        players: The optimiser of each player, by what errors call the player.
        engine: As above.
        steps: How many steps are to come, if known.
        first_step: How many steps were made in another process, by whose engines this one goes on.
        across: The processes that each have a share of every batch, over which losses and gradients
            are averaged; all moves are eager then. None for one process.
        failure: From a player and the index of a step to the exception to raise where the player's
            loss is not finite.

    Attributes:
        index: Of the next step.

    Raises:
        ValueError: If the engine is unknown.
    """

    def __init__(
        self,
        players: Mapping[str, torch.optim.Optimizer],
        *,
        engine: Engine = "auto",
        steps: int | None = None,
        first_step: int = 0,
        across: Ranks | None = None,
        failure: Failure,
    ) -> None:
        self.index = first_step
        self._first = first_step
        self._steps = steps
        self._players = players
        self._across = across
        self._failure = failure
        self._engine = engine
        self._device = _parameters_of(next(iter(players.values())))[0].device
        expect_engine(engine, self._device)
        # How it is replayed once that pays: when it does is said by `plan`.
        graph = plan(_PAYS_AFTER, engine, self._device)
        self._replay = Replay(graph, what="step of the game", begun=first_step)
        self._adams: dict[str, Adam] = {}
        self._places: dict[str, list[int]] = {}
        self._pure: Functional | None = None
        self._move: Move | None = None
        self._names: list[str] = []

    @property
    def is_first(self) -> bool:
        """Whether no step has been made here yet."""
        return self.index == self._first

    def begin(self, *parts: Any) -> None:
        """Finds the parameters of the players; called before the first step.

        Args:
            *parts: All that the moves call: programs, guides, critics, and functions that close
                over networks.
        """
        self._pure = Functional(lambda play, *batch: play(*batch), *modules_of(*parts))
        place = {id(tensor): i for i, tensor in enumerate(self._pure.tensors)}
        reason = None
        for name, optimizer in self._players.items():
            adam = Adam.of(optimizer)
            own = _parameters_of(optimizer)
            if adam is None:
                reason = f"the optimiser of the {name} is neither Adam nor AdamW"
            elif any(id(p) not in place for p in own):
                reason = f"the optimiser of the {name} holds parameters that no module has"
            else:
                self._adams[name] = adam
                self._places[name] = [place[id(p)] for p in own]
        if self._across is not None:
            reason = "each of several processes makes its moves by itself"
        if reason is None:
            return
        self._replay.lower("eager")
        if self._engine not in ("auto", "eager"):
            warnings.warn(f"{reason}: the steps are eager", RuntimeWarning, stacklevel=4)

    def __call__(
        self,
        play: Play,
        *batch: Tensor,
        is_steady: bool = True,
    ) -> dict[str, Tensor]:
        """Makes a step.

        Args:
            play: Its moves.
            *batch: What it is called with, each tensor with the data on its first axis.
            is_steady: Whether the moves are those of every later step; False while they depend on
                something that a graph cannot hold. It has to be found anew by a run that goes on.

        Returns:
            What `play` returns, without gradients.

        Raises:
            ValueError: If no parameter of an optimiser gets a gradient, or modules hold others than
                those that the step was built with.
            Exception: What `failure` returns; the player's parameters are unchanged then.
        """
        found = None
        if is_steady and self._is_to_be_replayed():
            found = self._play_by_graph(play, batch)
        if found is None:
            with self._moving(self._eagerly):
                found = {name: value.detach() for name, value in play(*batch).items()}
        self.index += 1
        return found

    def descend(self, player: str, loss: Tensor, rows: int = 1) -> None:
        """Moves a player down a loss; only for `play`.

        Args:
            player: Its name.
            loss: A scalar with a gradient, an average over data.
            rows: The number of data of this process.
        """
        assert self._move is not None, "called by a step"
        self._move(player, loss, rows)

    def _is_to_be_replayed(self) -> bool:
        """Whether steps are made by a graph, if there is one."""
        if self._replay.highest == "eager" or not all(a.usable for a in self._adams.values()):
            return False
        steps = max(self.index + 1, self._steps or 0)
        return plan(steps, self._engine, self._device) != "eager"

    def _eagerly(self, player: str, loss: Tensor, rows: int) -> None:
        """A move by the player's own optimiser."""
        if self._across is None:
            self._expect_finite(player, loss)
        optimizer = self._players[player]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = _parameters_of(optimizer)
        _expect_some(player, [p.grad for p in parameters])
        if self._across is not None:
            self._expect_finite(player, self._across.average_gradients(loss, parameters, rows))
        optimizer.step()

    def _expect_finite(self, player: str, loss: Tensor) -> None:
        """Raises what `failure` returns if a loss is not finite."""
        if not bool(torch.isfinite(loss)):
            raise self._failure(player, self.index)

    def _play_by_graph(self, play: Play, batch: Sequence[Tensor]) -> dict[str, Tensor] | None:
        """The step by one graph; None, with nothing done, where there is no such graph."""
        assert self._pure is not None
        held = self._pure.tensors
        states = []
        needed = []
        for name, adam in self._adams.items():
            own = _parameters_of(self._players[name])
            if not all(held[i] is p for i, p in zip(self._places[name], own, strict=True)):
                raise ValueError(
                    f"expected the parameters of the {name} that the step was built with, got "
                    "others; build its optimiser and the step anew"
                )
            needed.append(tuple([p.requires_grad for p in own]))
            states.append(adam.prepared_inputs(needed[-1]))
        settings = [adam.settings for adam in self._adams.values()]
        constants = (*needed, *settings, self._pure.numbers)
        self._replay.note(constants)
        players = [
            _Player(*of_player)
            for of_player in zip(
                self._adams, self._adams.values(), self._places.values(), needed, strict=True
            )
        ]
        found = self._replay(
            partial(self._play_in_graph, play, players, len(batch)),
            *held,
            *batch,
            *chain.from_iterable(states),
            eager=_nothing,
            key=(constants, shapes(batch)),
            rows=range(len(held), len(held) + len(batch)),
        )
        if found is None:
            return None
        failed, *values = found
        at = int(failed)  # waits for the device
        if at >= 0:
            raise self._failure(players[at].name, self.index)
        return dict(zip(self._names, values, strict=True))

    def _play_in_graph(
        self, play: Play, players: Sequence[_Player], width: int, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """(failed, *what `play` returns), as a function of the inputs of a graph.

        The first is the place of the player whose loss is not finite, −1 if there is none.

        Args:
            play: The moves.
            players: Who makes them.
            width: The number of tensors in a batch.
            *inputs: Those of the modules, the batch, and the state of each player's Adam.
        """
        assert self._pure is not None
        count = len(self._pure.tensors)
        moves = _Moves(players, inputs[:count], inputs[count + width :])
        with torch.enable_grad(), self._moving(moves.descend):
            found = self._pure(moves.tensors, play, *inputs[count : count + width])
        self._names = list(found)
        return moves.failed, *[value.detach() for value in found.values()]

    @contextmanager
    def _moving(self, move: Move) -> Iterator[None]:
        """Has `descend` make its moves in one way."""
        before = self._move
        self._move = move
        try:
            yield
        finally:
            self._move = before


class _Player(NamedTuple):
    """What a graph takes for granted of a player.

    Attributes:
        name: What errors call it.
        adam: Its optimiser.
        places: Where its parameters are among the tensors of the modules.
        needed: Whether each of them needs a gradient.
    """

    name: str
    adam: Adam
    places: Sequence[int]
    needed: Sequence[bool]


class _Moves:
    """The moves of one step, as they are traced: updates in place while every loss is finite.

    Args:
        players: Who makes them.
        held: The tensors of the modules, which are updated.
        states: The inputs of each player's Adam, one after the other.

    Attributes:
        tensors: Those that the modules are to hold meanwhile: leaves where a gradient is needed.
        failed: The place of the first player whose loss is not finite, Long (); −1 so far.
    """

    def __init__(
        self, players: Sequence[_Player], held: Sequence[Tensor], states: Sequence[Tensor]
    ) -> None:
        self.tensors = list(held)
        self.failed = torch.full((), -1, device=held[0].device)
        self._players = {player.name: (i, player) for i, player in enumerate(players)}
        self._held = held
        self._states = {}
        for player in players:
            width = player.adam.width
            self._states[player.name] = states[:width]
            states = states[width:]
            for place, is_needed in zip(player.places, player.needed, strict=True):
                if is_needed:
                    self.tensors[place] = held[place].detach().requires_grad_()

    def descend(self, name: str, loss: Tensor, rows: int) -> None:
        """A move down a loss.

        Args:
            name: Of the player.
            loss: A scalar with a gradient.
            rows: The number of its data.
        """
        at, player = self._players[name]
        leaves = []
        for place, is_needed in zip(player.places, player.needed, strict=True):
            if is_needed:
                leaves.append(self.tensors[place])
        found = iter(_expect_some(name, torch.autograd.grad(loss, leaves, allow_unused=True)))
        with torch.no_grad():
            has_failed = (self.failed < 0) & ~torch.isfinite(loss)
            self.failed = torch.where(has_failed, at, self.failed)
            is_good = self.failed < 0
            for i, (place, is_needed) in enumerate(zip(player.places, player.needed, strict=True)):
                gradient = None
                if is_needed:
                    gradient = next(found)
                if gradient is not None:
                    state = self._states[name]
                    player.adam.update(i, self._held[place], gradient, state, is_good)


def _parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    parameters: list[Tensor] = []
    for group in optimizer.param_groups:
        parameters.extend(group["params"])
    return parameters


def _expect_some(player: str, gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """The gradients; raises ValueError if all of them are None."""
    if all(gradient is None for gradient in gradients):
        raise ValueError(
            f"expected the optimiser of the {player} to hold its parameters, got none that has a "
            "gradient; build it from .parameters() of what it is to train"
        )
    return gradients


def _nothing(*inputs: Tensor) -> None:
    """Stands in for a step that no graph makes."""
