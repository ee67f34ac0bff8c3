"""Autoencoders on test data: against principal components, under noise, and wider than the data.

`OMP_NUM_THREADS=1 PPL_GEN_DATA=data python tests/benchmarks/autoencoder_table.py --data mnist`.
Three tables of averages over test data, ± their standard errors sd / √N:

1. ‖x̂ − x‖² of multilayer perceptrons, convolutions and principal components of d = 2, 8, 32, and
   the paired difference to the components, which all networks have to be below.
2. A plain and a denoising network on test data with noise: ‖x̂(x̃) − x‖², and how far the code
   moves, ‖g(x̃) − g(x)‖ / ‖g(x)‖.
3. Codes wider than the data, of one sigmoid layer: ‖x̂ − x‖² of held-out data, of such data under
   noise, and of images of nothing but noise, which only a network gives back that has learned the
   identity.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.corruptions import gaussian_noise
from ppl_gen.data import Split
from ppl_gen.inference import fit, reconstruction_step, squared_error
from ppl_gen.models import Autoencoder, autoencoder, conv_autoencoder, pca
from ppl_gen.penalties import Contractive


def fitted(net: Autoencoder, train: Tensor, epochs: int, rate: float, **options: Any) -> Any:
    """The network after some epochs of Adam, its rate falling to zero."""
    batches = Split(train).batches(100)
    optimizer = torch.optim.Adam(net.parameters(), rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs)
    step = reconstruction_step(net, optimizer, engine="fx", **options)
    fit(step, batches, epochs, progress=False, scheduler=falling)
    return net


@torch.no_grad()
def errors(net: Autoencoder, seen: Tensor, x: Tensor) -> Tensor:
    """‖x̂ − x‖² of each datum, x̂ made of what is seen."""
    parts = [
        squared_error(net(some), true)
        for some, true in zip(seen.split(1000), x.split(1000), strict=True)
    ]
    return torch.cat(parts).double()


@torch.no_grad()
def moved(net: Autoencoder, seen: Tensor, x: Tensor) -> Tensor:
    """‖g(x̃) − g(x)‖ / ‖g(x)‖ of each datum."""
    code = net.encoder(x)
    return ((net.encoder(seen) - code).norm(dim=1) / code.norm(dim=1)).double()


def shown(values: Tensor) -> str:
    """The average and its standard error."""
    return f"{float(values.mean()):9.4f} ± {float(values.std()) / math.sqrt(len(values)):.4f}"


def against_components(train: Tensor, test: Tensor, asked: Any) -> None:
    """Table 1."""
    shape = tuple(train.shape[1:])
    print("squared error per test datum; difference to principal components")
    for dim in asked.dims:
        linear = errors(pca(train, dim), test, test)
        print(f"  d = {dim:2d}  components    {shown(linear)}")
        nets = {
            "perceptron": (autoencoder, {"hidden": tuple(asked.hidden)}, asked.epochs),
            "convolutions": (conv_autoencoder, {}, asked.conv_epochs),
        }
        for name, (build, options, epochs) in nets.items():
            start = time.process_time()
            torch.manual_seed(asked.seed)
            rows = train[: asked.conv_data] if name == "convolutions" else train
            net = fitted(build(shape, dim, **options), rows, epochs, asked.lr)
            found = errors(net, test, test)
            print(
                f"  d = {dim:2d}  {name:12s}  {shown(found)}   {shown(found - linear)}  "
                f"({time.process_time() - start:.0f} CPU s)",
                flush=True,
            )


def under_noise(train: Tensor, test: Tensor, asked: Any) -> None:
    """Table 2."""
    noise = gaussian_noise(asked.noise)
    torch.manual_seed(asked.seed + 1)
    noisy = noise(test)
    print(f"Gaussian noise of {asked.noise:g}: squared error from noisy data, movement of the code")
    seen = {}
    for name, options in {"plain": {}, "denoising": {"corruption": noise}}.items():
        torch.manual_seed(asked.seed)
        net = autoencoder(tuple(train.shape[1:]), 32, hidden=tuple(asked.hidden))
        net = fitted(net, train[: asked.few], asked.epochs, asked.lr, **options)
        seen[name] = (errors(net, noisy, test), moved(net, noisy, test))
        print(f"  {name:10s} {shown(seen[name][0])}   {shown(seen[name][1])}", flush=True)
    gains = [shown(b - a) for a, b in zip(*seen.values(), strict=True)]
    print(f"  denoising less plain {'   '.join(gains)}")


def wider_than_data(train: Tensor, test: Tensor, asked: Any) -> None:
    """Table 3."""
    size = math.prod(train.shape[1:])
    width = math.ceil(1.25 * size)
    noise = gaussian_noise(asked.noise)
    torch.manual_seed(asked.seed + 1)
    noisy = noise(test)
    nothing = torch.rand_like(test)
    print(f"code of {width} for data of {size} values: held out, under noise, noise alone")
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "denoising": {"corruption": noise},
        "contractive": {"penalty": Contractive(asked.contraction)},
    }
    for name, options in kinds.items():
        torch.manual_seed(asked.seed)
        net = autoencoder(tuple(train.shape[1:]), width, hidden=(), of_code=nn.Sigmoid)
        net = fitted(net, train[: asked.few], asked.epochs, asked.lr, **options)
        found = [
            errors(net, test, test),
            errors(net, noisy, test),
            errors(net, nothing, nothing),
        ]
        print(f"  {name:12s} {'   '.join(map(shown, found))}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 128])
    parser.add_argument("--epochs", type=int, default=5, help="of perceptrons")
    parser.add_argument("--conv-epochs", type=int, default=4, help="of convolutions")
    parser.add_argument(
        "--conv-data", type=int, default=10_000, help="data convolutions are fitted to"
    )
    parser.add_argument("--few", type=int, default=10_000, help="data of tables 2 and 3")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--noise", type=float, default=0.3, help="standard deviation")
    parser.add_argument("--contraction", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables", type=int, nargs="+", default=[1, 2, 3])
    asked = parser.parse_args()
    read = data.load(asked.data, root=os.environ.get("PPL_GEN_DATA"))
    train = read.train.fixed().x
    test = read.test.fixed().x
    for number in asked.tables:
        (against_components, under_noise, wider_than_data)[number - 1](train, test, asked)


if __name__ == "__main__":
    main()
