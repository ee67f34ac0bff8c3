"""Whole programs."""

from __future__ import annotations

__all__ = ["PROGRAMS"]

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from by_hand.rivals import Rival, divergence, log_standard, perceptron
from ppl_gen import models
from ppl_gen.inference.fitting.objectives import Enumerated


def _normal(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """A draw of N(loc, exp(log_scale)²) and its log density."""
    loc, log_scale = outputs.chunk(2, -1)
    noise = torch.randn_like(loc)
    return loc + log_scale.exp() * noise, log_standard(noise) - log_scale.sum(-1)


def _log_normal(z: Tensor, outputs: Tensor) -> Tensor:
    loc, log_scale = outputs.chunk(2, -1)
    return log_standard((z - loc) * torch.exp(-log_scale)) - log_scale.sum(-1)


def _log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    each = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
    return -each.flatten(-(x.dim() - 1)).sum(-1)


def hierarchical(count: int = 100, *, top_down: bool = False) -> Rival:
    """Two layers of 100 and 50, mirrored; the guide from the data up, or the ladder."""
    program = models.hierarchical_vae((784,), (100, 50), top_down=top_down)
    x = torch.rand(count, 784).round()
    down = perceptron(50, 100, 100, 200)
    decoder = perceptron(100, 200, 200, 784)
    if top_down:
        features = [perceptron(784, 200, 200), perceptron(200, 100, 100)]
        heads = [nn.Linear(200, 200), nn.Linear(100, 100)]
        loss = partial(_ladder_loss, x, features, heads, down, decoder)
        return Rival(loss, [*features, *heads, down, decoder], program, (x,))
    up = [perceptron(784, 200, 200, 200), perceptron(100, 100, 100, 100)]

    def loss_from_below() -> Tensor:
        z1, log_q1 = _normal(up[0](x))
        z2, log_q2 = _normal(up[1](z1))
        log_p = log_standard(z2) + _log_normal(z1, down(z2)) + _log_bernoulli(x, decoder(z1))
        return (log_q1 + log_q2 - log_p).sum() / len(x)

    return Rival(loss_from_below, [*up, down, decoder], program, (x,))


def _ladder_loss(
    x: Tensor,
    features: list[nn.Sequential],
    heads: list[nn.Linear],
    down: nn.Module,
    decoder: nn.Module,
) -> Tensor:
    """q(z1 | z2, x) weights what x says and p(z1 | z2), computed once, by their precisions."""
    first = features[0](x).tanh()
    second = features[1](first).tanh()
    z2, log_q2 = _normal(heads[1](second))
    of_x, of_prior = heads[0](first), down(z2)
    loc_x, log_x = of_x.chunk(2, -1)
    loc_p, log_p = of_prior.chunk(2, -1)
    weight = torch.sigmoid(2 * (log_p - log_x))
    loc = weight * loc_x + (1 - weight) * loc_p
    z1, log_q1 = _normal(torch.cat([loc, log_x + 0.5 * weight.log()], -1))
    log_joint = log_standard(z2) + _log_normal(z1, of_prior) + _log_bernoulli(x, decoder(z1))
    return (log_q1 + log_q2 - log_joint).sum() / len(x)


def semi_supervised(count: int = 100, classes: int = 10) -> Rival:
    """M2, a tenth of the data with a label; that of the others summed out."""
    program = models.ss_vae((784,), 50, classes=classes, hidden=(500,))
    x = torch.rand(count, 784).round()
    y = torch.randint(0, classes, (count,))
    y[count // 10 :] = -1
    soft = nn.Softplus
    classifier = perceptron(784, 500, classes, activation=soft)
    encoder = perceptron(784 + classes, 500, 100, activation=soft)
    decoder = perceptron(50 + classes, 500, 784, activation=soft)
    labelled = y >= 0
    every = torch.eye(classes)[:, None]

    def bound(x: Tensor, code: Tensor) -> Tensor:
        z, log_q = _normal(encoder(torch.cat([x.expand(*code.shape[:-1], -1), code], -1)))
        log_x = _log_bernoulli(x, decoder(torch.cat([z, code], -1)))
        return log_x + log_standard(z) - log_q - torch.tensor(float(classes)).log()

    def loss() -> Tensor:
        known = bound(x[labelled], F.one_hot(y[labelled], classes).to(x.dtype))
        others = x[~labelled]
        log_q = classifier(others).log_softmax(-1).T
        of_each = bound(others, every.expand(-1, len(others), -1))
        summed = (log_q.exp() * (of_each - log_q)).sum(0)
        return -(known.sum() + summed.sum()) / len(x)

    return Rival(loss, [classifier, encoder, decoder], program, (x, y), Enumerated())


def convolutional(count: int = 64, classes: int = 10) -> Rival:
    """A CVAE of 28 × 28 images, two strided convolutions each way, its prior learned."""
    program = models.conv_cvae((1, 28, 28), 20, classes=classes)
    x = torch.rand(count, 1, 28, 28).round()
    y = torch.randint(0, classes, (count,))
    relu = nn.ReLU
    features = nn.Sequential(
        nn.Conv2d(1, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3136, 256),
        nn.ReLU(),
    )
    encoder = nn.Linear(256 + classes, 40)
    prior = perceptron(classes, 256, 40, activation=relu)
    decoder = nn.Sequential(
        perceptron(20 + classes, 256, 3136, activation=relu),
        nn.ReLU(),
        nn.Unflatten(-1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 3, stride=2, padding=1, output_padding=1),
    )

    def loss() -> Tensor:
        code = F.one_hot(y, classes).to(x.dtype)
        z, log_q = _normal(encoder(torch.cat([features(x), code], -1)))
        log_x = _log_bernoulli(x, decoder(torch.cat([z, code], -1)))
        return (log_q - _log_normal(z, prior(code)) - log_x).sum() / len(x)

    return Rival(loss, [features, encoder, prior, decoder], program, (x, y))


def draw(count: int = 64, steps: int = 8, hidden: int = 128, latent_dim: int = 10) -> Rival:
    """DRAW without attention, its decoder run once."""
    program = models.draw((784,), latent_dim, steps=steps, hidden=hidden)
    x = torch.rand(count, 784).round()
    reader = nn.LSTMCell(2 * 784 + hidden, hidden)
    painter = nn.LSTMCell(latent_dim, hidden)
    posterior = nn.Linear(hidden, 2 * latent_dim)
    write = nn.Linear(hidden, 784)

    def loss() -> Tensor:
        zero = x.new_zeros(count, hidden)
        seen, drawn = (zero, zero), (zero, zero)
        canvas = torch.zeros_like(x)
        kl = x.new_zeros(())
        for _ in range(steps):
            seen = reader(torch.cat([x, x - canvas.sigmoid(), drawn[0]], -1), seen)
            loc, log_scale = posterior(seen[0]).chunk(2, -1)
            kl = kl + divergence(loc, log_scale)
            z = loc + log_scale.exp() * torch.randn_like(loc)
            drawn = painter(z, drawn)
            canvas = canvas + write(drawn[0])
        error = F.binary_cross_entropy_with_logits(canvas, x, reduction="sum")
        return (error + kl) / count

    return Rival(loss, [reader, painter, posterior, write], program, (x,))


def text(count: int = 64, length: int = 60, vocabulary: int = 80, hidden: int = 128) -> Rival:
    """A text VAE of two GRUs, lines of full length."""
    latent_dim, size = 16, 64
    program = models.text_vae(vocabulary, length, latent_dim, hidden=hidden, embedding=size)
    x = torch.randint(1, vocabulary, (count, length))
    reads = nn.Embedding(vocabulary, hidden)
    encoder = nn.GRU(hidden, hidden, batch_first=True)
    posterior = nn.Linear(hidden, 2 * latent_dim)
    start = nn.Linear(latent_dim, hidden)
    embedding = nn.Embedding(vocabulary + 1, size)
    beside = nn.Linear(hidden, size, bias=False)
    decoder = nn.GRU(size, hidden, batch_first=True)
    head = nn.Linear(hidden, vocabulary)
    first = x.new_full((count, 1), vocabulary)

    def loss() -> Tensor:
        _, last = encoder(reads(x))
        loc, log_scale = posterior(last[0]).chunk(2, -1)
        context = start(loc + log_scale.exp() * torch.randn_like(loc))
        inputs = embedding(torch.cat([first, x[:, :-1]], 1)) + beside(context)[:, None]
        states, _ = decoder(inputs, context.tanh()[None])
        error = F.cross_entropy(head(states).flatten(0, 1), x.flatten(), reduction="sum")
        return (error + divergence(loc, log_scale)) / count

    parts = [reads, encoder, posterior, start, embedding, beside, decoder, head]
    return Rival(loss, parts, program, (x,))


PROGRAMS: dict[str, Callable[[], Rival]] = {
    "hierarchical-vae": hierarchical,
    "hierarchical-vae, top-down": partial(hierarchical, top_down=True),
    "ss-vae": semi_supervised,
    "conv-cvae": convolutional,
    "draw": draw,
    "text-vae": text,
}
