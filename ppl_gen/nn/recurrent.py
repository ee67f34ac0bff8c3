"""A recurrent cell that takes any leading axes, particles' and chains' among them."""

from __future__ import annotations

__all__ = ["LSTM", "LSTMState"]

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights


class LSTMState(NamedTuple):
    """What an LSTM remembers from one step to the next.

    Attributes:
        hidden: h, its output, (*batch, H).
        cell: c, (*batch, H).

    Examples:
        >>> state = LSTM(inputs=3, hidden=4).start  # before the first step, learned
        >>> state.hidden.shape, state.cell.shape
        (torch.Size([4]), torch.Size([4]))
    """

    hidden: Tensor
    cell: Tensor


class LSTM(nn.Module):
    """c′ = σ(f) ⊙ c + σ(i) ⊙ tanh(g), h′ = σ(o) ⊙ tanh(c′), with (i, f, g, o) = W v + U h + b.

    One step of a long short-term memory, in plain operations: it takes inputs and states over any
    leading axes, each broadcast against the other, and traces into one graph. Forgetting begins at
    σ(1).

    Args:
        inputs: The size of v.
        hidden: H, the size of h and c.

    Raises:
        ValueError: If a size is below 1, or the weights do not fit into memory.

    Examples:
        >>> cell = LSTM(inputs=3, hidden=4)
        >>> state = cell(torch.zeros(5, 3), cell.start)  # one step of five sequences
        >>> state.hidden.shape, state.cell.shape
        (torch.Size([5, 4]), torch.Size([5, 4]))

    Reference:
        Hochreiter and Schmidhuber (1997), Long short-term memory; Jozefowicz, Zaremba and Sutskever
        (2015), An empirical exploration of recurrent network architectures, for the bias.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        expect_at_least(1, **{"a layer's size": inputs, "hidden units": hidden})
        expect_weights((inputs, 4 * hidden), (hidden, 4 * hidden))
        self.of_input = nn.Linear(inputs, 4 * hidden)
        self.of_hidden = nn.Linear(hidden, 4 * hidden, bias=False)
        self.start_hidden = nn.Parameter(torch.zeros(hidden))
        self.start_cell = nn.Parameter(torch.zeros(hidden))
        with torch.no_grad():
            self.of_input.bias[hidden : 2 * hidden] = 1.0

    @property
    def start(self) -> LSTMState:
        """The learned state before the first step, (H,) each."""
        return LSTMState(self.start_hidden, self.start_cell)

    def forward(self, values: Tensor, state: LSTMState) -> LSTMState:
        """The next state.

        Args:
            values: v, (*batch, inputs).
            state: The state so far, (*batch, H) or of fewer axes.
        """
        gates = self.of_input(values) + self.of_hidden(state.hidden)
        write, keep, new, show = gates.chunk(4, -1)
        cell = torch.sigmoid(keep) * state.cell + torch.sigmoid(write) * torch.tanh(new)
        return LSTMState(torch.sigmoid(show) * torch.tanh(cell), cell)
