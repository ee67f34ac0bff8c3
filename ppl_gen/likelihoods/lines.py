"""P(x | s) of a line of text, token by token: each is drawn given those before it."""

from __future__ import annotations

__all__ = ["Lines", "TokenSequence"]

from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor, nn
from torch.nn import functional as F

from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.memory import expect_memory, expect_weights
from ppl_gen.protocols import Distribution


class Lines(nn.Module):
    """P(x | s) = Πₜ P(xₜ | x₁, …, xₜ₋₁, s), each softmax(W hₜ), hₜ = GRU(E xₜ₋₁ + U s, hₜ₋₁).

    h₀ = tanh(s). The number 0 ends a line: what stands behind it is 0 with probability 1, and adds
    no nats; a line of L tokens ends by itself. A likelihood, which holds the network that reads x.

    Args:
        vocabulary: The number of tokens, the end of a line included.
        length: L, the most tokens of a line.
        hidden: The size of s and of h.
        embedding: The size of E x.
        word_dropout: The probability with which, in training mode, a token that was read is
            replaced by one that tells nothing: what is missing has to come from s.

    Raises:
        ValueError: If there are fewer than two tokens, a size is below 1, the weights do not fit
            into memory, or the probability is not from 0 to below 1.

    Examples:
        >>> likelihood = Lines(vocabulary=5, length=7, hidden=8, embedding=4)
        >>> lines = likelihood(torch.zeros(3, 8))
        >>> lines.sample().shape, lines.log_prob(torch.zeros(3, 7, dtype=torch.long)).shape
        (torch.Size([3, 7]), torch.Size([3]))

    Reference:
        Bowman et al. (2016), Generating sentences from a continuous space.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        *,
        hidden: int = 256,
        embedding: int = 64,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        expect_at_least(2, **{"a vocabulary, with the end of a line,": vocabulary})
        expect_at_least(1, length=length, **{"hidden units": hidden, "an embedding": embedding})
        expect_number(word_dropout=word_dropout)
        if not 0 <= word_dropout < 1:
            raise ValueError(f"expected word_dropout from 0 to below 1, got {word_dropout}")
        expect_weights(
            (vocabulary, embedding), (embedding, 3 * hidden), (hidden, 3 * hidden + vocabulary)
        )
        expect_memory("the scores of one line", 4 * length * vocabulary, "take shorter lines")
        self.vocabulary = vocabulary
        self.length = length
        self.word_dropout = word_dropout
        # Behind the tokens: the start of a line, and a token that was dropped.
        self.embedding = nn.Embedding(vocabulary + 2, embedding)
        self.of_context = nn.Linear(hidden, embedding, bias=False)
        self.recurrent = nn.GRU(embedding, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, context: Tensor) -> Distribution:
        """The distribution of a line given s (*batch, hidden)."""
        return TokenSequence(self, context)

    def read(self, x: Tensor) -> Tensor:
        """What is read at each place: the start and all tokens but the last, (..., L, embedding).

        Args:
            x: Lines, Long (..., L).
        """
        read = x[..., :-1]
        if self.training and self.word_dropout:
            is_dropped = torch.rand(read.shape, device=x.device) < self.word_dropout
            read = torch.where(is_dropped, self.vocabulary + 1, read)
        first = x.new_full((*x.shape[:-1], 1), self.vocabulary)
        return self.embedding(torch.cat([first, read], -1))

    def logits(self, read: Tensor, context: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of the tokens that follow, (M, T, vocabulary), and the state behind the last.

        Args:
            read: E x of T tokens, (M, T, embedding).
            context: s, (M, hidden).
            state: h before the first of them, (M, hidden).
        """
        inputs = read + self.of_context(context).unsqueeze(-2)
        states, last = self.recurrent(inputs, state[None])
        return self.head(states), last[0]


class _OfLines(constraints.Constraint):
    """Whole numbers below K, of which a 0 has only 0 behind it."""

    is_discrete = True
    event_dim = 1

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        is_token = (value >= 0) & (value < self.vocabulary) & (value == value.round())
        goes_on = (value[..., :-1] == 0) & (value[..., 1:] != 0)
        return is_token.all(-1) & ~goes_on.any(-1)

    def __repr__(self) -> str:
        return f"lines of tokens 0 to {self.vocabulary - 1}, with 0 behind the last"


class TokenSequence(TorchDistribution):
    """Πₜ P(xₜ | x₁, …, xₜ₋₁, s) over lines x of whole numbers (L,), as `Lines` has it.

    Args:
        net: The network that reads and writes.
        context: s, of shape (*batch, hidden).

    Examples:
        >>> line = Lines(vocabulary=5, length=7, hidden=8, embedding=4)(torch.zeros(8))
        >>> type(line).__name__, line.event_shape, line.sample((2,)).shape
        ('TokenSequence', torch.Size([7]), torch.Size([2, 7]))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, net: Lines, context: Tensor) -> None:
        self.net = net
        self.context = context
        super().__init__(context.shape[:-1], Size((net.length,)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return _OfLines(self.net.vocabulary)

    @property
    def scoring_width(self) -> int:
        """How many numbers the scoring of one line takes."""
        return self.net.length * (self.net.vocabulary + 4 * self.context.shape[-1])

    def expand(self, batch_shape: Any, _instance: Any = None) -> TokenSequence:
        return TokenSequence(self.net, self.context.expand(*batch_shape, -1))

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.long()
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        read = self.net.read(value).expand(*shape, -1, -1)
        context = self.context.expand(*shape, -1).reshape(-1, self.context.shape[-1])
        logits, _ = self.net.logits(read.reshape(-1, *read.shape[-2:]), context, context.tanh())
        target = value.expand(*shape, -1).reshape(-1, value.shape[-1])
        nats = F.cross_entropy(logits.transpose(-1, -2), target, reduction="none")
        was_running = F.pad(target[:, :-1] != 0, (1, 0), value=True)
        return -(nats * was_running).sum(-1).reshape(shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            shape = Size(sample_shape) + self.batch_shape
            return self._written(shape, lambda p: torch.multinomial(p, 1).squeeze(-1))

    @property
    def mode(self) -> Tensor:
        """The line of the likeliest token at each place, given those before: no mean exists."""
        with torch.no_grad():
            return self._written(self.batch_shape, lambda p: p.argmax(-1))

    def _written(self, shape: Size, choose: Any) -> Tensor:
        """Lines (*shape, L), a token after the other.

        Args:
            shape: That of the lines.
            choose: From probabilities (M, vocabulary) to the numbers of tokens (M,).
        """
        context = self.context.expand(*shape, -1).reshape(-1, self.context.shape[-1])
        state = context.tanh()
        last = torch.full(state.shape[:1], self.net.vocabulary, device=state.device)
        is_running = torch.ones_like(last, dtype=torch.bool)
        tokens = []
        for _ in range(self.net.length):
            read = self.net.embedding(last)[:, None]
            logits, state = self.net.logits(read, context, state)
            last = torch.where(is_running, choose(logits[:, 0].softmax(-1)), 0)
            is_running = last != 0
            tokens.append(last)
        return torch.stack(tokens, -1).reshape(*shape, -1)
