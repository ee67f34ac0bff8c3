"""The command `ppl-gen`: a file for each command, with what is typed after it.

Torch and Pyro are imported when a command needs them, so that help answers at once.
"""

from __future__ import annotations

__all__ = ["app", "main"]

import platform
from importlib.metadata import version
from typing import Annotated

import typer

from ppl_gen.app.cli import (
    compare,
    compress,
    decompress,
    evaluate,
    explore,
    fit,
    pack,
    parts,
    posterior,
    reconstruct,
    report,
    sample,
    sweep,
    translate,
    unpack,
)
from ppl_gen.app.signals import Terminated, heed, stopped

EXAMPLES = """Deep generative models as probabilistic programs, judged in nats.

**Examples**

* `ppl-gen fit vae` fits a VAE to scikit-learn's digits, with nothing to download;
  `ppl-gen fit dcgan` a GAN

* `ppl-gen fit conv-vae --data mnist --download --latent-dim 50 --out runs/mnist`

* `ppl-gen fit cvae --data photos/ --likelihood gaussian` takes a folder of images, one folder per
  class

* `ppl-gen fit cycle-gan --data-a digits --data-b mnist:8x8` translates between two domains
  without pairs

* `ppl-gen parts` lists priors, likelihoods, guides and more, each with an example; a part may be
  your own: `ppl-gen fit vae --prior my_parts.py:MyPrior`

* `ppl-gen fit vae --out runs/mnist --resume` goes on where a run stopped

* `torchrun --nproc-per-node 4 -m ppl_gen fit vae --out runs/mnist --resume` does so in four
  processes, on four CUDA devices where there are; so it fits a new run, and evaluates one

* `ppl-gen evaluate runs/mnist` prints the test log evidence with its standard error

* `ppl-gen evaluate runs/mnist --ais --bdmc --gaps --collapse` says how good that number, the
  guide and the latents are

* `ppl-gen evaluate runs/mnist --moments --two-sample` holds its draws against test data, as it
  does for a GAN

* `ppl-gen evaluate runs/vae-digits runs/dcgan-digits` puts runs of the same data into one table

* `ppl-gen fit vae --objective iwae --particles 50` takes a tighter bound

* `ppl-gen compare eight-schools` holds variational inference against MCMC; so does
  `ppl-gen compare runs/mnist`

* `ppl-gen posterior my_model.py:model --data data.json --out draws.nc` samples any Pyro program,
  and says how good the draws are

* `ppl-gen sample runs/mnist` and `ppl-gen reconstruct runs/mnist` draw pictures;
  `ppl-gen sample runs/mnist --out draws.npz` writes arrays

* `ppl-gen sweep dimensions` runs an experiment into one table and one picture;
  `ppl-gen sweep --list` names them all, `ppl-gen sweep my.toml` runs one of your own

* `ppl-gen compress runs/mnist mnist digits.bits` puts the test digits into as few bits as the
  bound says; `ppl-gen decompress runs/mnist digits.bits digits.npy` gives them back

* `ppl-gen pack runs/mnist mnist.zip` makes one file of a run, `ppl-gen unpack mnist.zip --out
  runs/again` a run of it

* `ppl-gen explore runs/mnist --manifold --neighbours 3 --interpolate 0 7` looks at its codes

* `ppl-gen report runs/mnist runs/gan --out report.html` writes all that was found into one page

* `ppl-gen translate runs/cycle-gan-digits-mnist-8x8 --from a photos/ --to translated/` writes an
  image for each
"""

app = typer.Typer(
    help=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)
# In the order of the help.
_COMMANDS = (
    fit.fit,
    evaluate.evaluate,
    sample.sample,
    reconstruct.reconstruct,
    explore.explore,
    report.report,
    translate.translate,
    compare.compare,
    posterior.posterior,
    sweep.sweep,
    compress.compress,
    decompress.decompress,
    pack.pack,
    unpack.unpack,
    parts.parts,
)
for command in _COMMANDS:
    app.command()(command)


def _show_version(asked: bool) -> None:
    """Prints the versions that a report of a fault wants, and ends the command."""
    if not asked:
        return
    packages = [f"{name} {version(name)}" for name in ("ppl-gen", "torch", "pyro-ppl")]
    typer.echo(f"{', '.join(packages)}, Python {platform.python_version()}")
    raise typer.Exit


@app.callback(help=EXAMPLES)
def options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print versions."),
    ] = False,
) -> None:
    """The options of the command itself."""


def main() -> None:
    """Runs the command, whose process heeds signals to its very end."""
    heed()
    try:
        app()
    except Terminated as stop:
        raise SystemExit(stopped(stop, "").exit_code) from None
