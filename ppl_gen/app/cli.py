"""The command `ppl-gen`. Nothing heavy is imported before a command needs it, so that help answers at once."""

from __future__ import annotations

__all__ = ["app", "main"]

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from ppl_gen.app.runs import Run

EXAMPLES = """Deep generative models as probabilistic programs, judged in nats.

**Examples**

* `ppl-gen fit vae` fits a VAE to scikit-learn's digits, with nothing to download

* `ppl-gen fit conv-vae --data mnist --download --latent-dim 50 --out runs/mnist`

* `ppl-gen fit cvae --data photos/ --likelihood gaussian` takes a folder of images, one folder per class

* `ppl-gen fit vae --out runs/mnist --resume` goes on where a run stopped

* `ppl-gen evaluate runs/mnist` prints the test log evidence with its standard error

* `ppl-gen evaluate runs/mnist --ais --bdmc --gaps --collapse` says how good that number, the guide and the latents are

* `ppl-gen fit vae --objective iwae --particles 50` takes a tighter bound

* `ppl-gen compare eight-schools` holds variational inference against MCMC; so does `ppl-gen compare runs/mnist`

* `ppl-gen sample runs/mnist` and `ppl-gen reconstruct runs/mnist` draw pictures
"""

app = typer.Typer(
    help=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Engine = Annotated[str, typer.Option(help="inductor, fx or eager; auto compiles where what is to come pays for it.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda; auto is CUDA where there is one.")]


_OF_THE_FOLDER = ("out", "resume", "overwrite", "download")


@app.command()
def fit(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="vae|cvae|conv-vae", help="What to fit.")],
    data: Annotated[
        str, typer.Option(help="A name (digits, mnist, cifar10, circle, ...), a folder, .npy or .npz.")
    ] = "digits",
    root: Annotated[Path | None, typer.Option(help="Where torchvision's files lie.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Let torchvision fetch what is missing.")] = False,
    binarize: Annotated[
        str,
        typer.Option(
            help="none, threshold, static, dynamic or dequantize; auto is dynamic under Bernoulli, else none."
        ),
    ] = "auto",
    image_size: Annotated[int | None, typer.Option(help="Side to bring the images of a folder to.")] = None,
    likelihood: Annotated[
        str, typer.Option(help="bernoulli, continuous-bernoulli, gaussian, laplace, ...")
    ] = "bernoulli",
    latent_dim: Annotated[int, typer.Option(help="Dimension of the latent z.")] = 10,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Data per step.")] = 100,
    lr: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-3,
    objective: Annotated[str, typer.Option(help="elbo, iwae, dreg or sticking-the-landing.")] = "elbo",
    particles: Annotated[int, typer.Option(help="Draws of the latents per datum and step.")] = 1,
    beta: Annotated[float, typer.Option(help="Weight of the KL term; 1 is the bound.")] = 1.0,
    anneal: Annotated[int, typer.Option(help="Epochs in which that weight rises from 0.")] = 0,
    free_bits: Annotated[float, typer.Option(help="Nats of KL that each latent has for nothing.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and noise.")] = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/MODEL-DATA if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin the run in --out anew.")] = False,
) -> None:
    """Fit a model to data by SVI, into a run folder."""
    with one_line_errors():
        from ppl_gen.app import training
        from ppl_gen.app.build import configure

        if resume and overwrite:
            raise ValueError("expected --resume or --overwrite, got both")
        # The options of a configuration have the names of its fields.
        config = configure(**{k: v for k, v in ctx.params.items() if k not in ("device", *_OF_THE_FOLDER)})
        folder = out or Path("runs") / f"{model}-{Path(data).stem}"
        given = {f.name for f in fields(config) if str(ctx.get_parameter_source(f.name)).endswith("COMMANDLINE")}
        training.fit(folder, config, given | {"model"}, device, resume, overwrite, download, console)


@app.command()
def evaluate(
    run_folder: RunFolder,
    particles: Annotated[int, typer.Option(help="Importance samples per datum.")] = 1000,
    limit: Annotated[int | None, typer.Option(help="Score only the first so many test data.")] = None,
    ais: Annotated[bool, typer.Option("--ais", help="Annealed importance sampling: a tighter bound.")] = False,
    bdmc: Annotated[bool, typer.Option("--bdmc", help="Bounds from both sides, on data drawn from the model.")] = False,
    gaps: Annotated[bool, typer.Option("--gaps", help="What the guide's family and its network lose.")] = False,
    collapse: Annotated[bool, typer.Option("--collapse", help="Which latents are in use.")] = False,
    chains: Annotated[int, typer.Option(help="Chains per datum, for --ais, --bdmc and --gaps.")] = 16,
    temperatures: Annotated[int, typer.Option(help="Steps from guide to posterior, for the same.")] = 1000,
    subset: Annotated[int, typer.Option(help="The first so many test data, for the same.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 0,
    device: Device = "auto",
) -> None:
    """Score a run on its test data: importance-weighted log evidence with standard error, and more on demand."""
    with one_line_errors():
        from ppl_gen.app import judging

        asked = judging.Asked(particles, limit, ais, bdmc, gaps, collapse, chains, temperatures, subset, seed)
        asked.expect_counts()
        run, program, dataset, _, epoch = _fitted(run_folder, device)
        judging.evaluate(run, program, dataset.test.fixed(0, limit), asked, epoch, console)


@app.command()
def sample(
    run_folder: RunFolder,
    count: Annotated[int, typer.Option(help="How many samples, at most 1000.")] = 100,
    label: Annotated[
        int | None, typer.Option(help="The label to condition a CVAE on; ten of each in turn if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    device: Device = "auto",
) -> None:
    """Draw samples of a run into samples.png."""
    with one_line_errors():
        from ppl_gen.app import report

        report.expect_count(count)
        run, program, dataset, chosen, _ = _fitted(run_folder, device)
        path = report.sample(run, program, dataset, count, label, seed, chosen)
        console.print(f"written to {path}", soft_wrap=True)


@app.command()
def reconstruct(
    run_folder: RunFolder,
    count: Annotated[int, typer.Option(help="How many test data, at most 1000.")] = 36,
    device: Device = "auto",
) -> None:
    """Draw test data beside their reconstructions into reconstructions.png."""
    with one_line_errors():
        from ppl_gen.app import report

        report.expect_count(count)
        run, program, dataset, _, _ = _fitted(run_folder, device)
        path = report.reconstruct(run, program, dataset.test.fixed(0, count))
        console.print(f"written to {path}", soft_wrap=True)


@app.command()
def compare(
    what: Annotated[
        str, typer.Argument(metavar="NAME|RUN", help="A toy posterior (eight-schools, ppca, ...) or a run.")
    ],
    sampler: Annotated[str, typer.Option(help="hmc, all chains at once, or nuts, Pyro's.")] = "hmc",
    guide: Annotated[
        str, typer.Option(help="mean-field or full-covariance, for a toy; a run has its own.")
    ] = "mean-field",
    chains: Annotated[int | None, typer.Option(help="Chains; 64 for hmc (16 on a run), 4 for nuts.")] = None,
    draws: Annotated[int, typer.Option(help="Draws of each chain.")] = 500,
    warmup: Annotated[int, typer.Option(help="Iterations before them.")] = 500,
    steps: Annotated[int, typer.Option(help="SVI steps of a toy's guide.")] = 3000,
    limit: Annotated[int, typer.Option(help="Of a run, the first so many test data.")] = 20,
    engine: Engine = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to; runs/compare-NAME, or RUN/compare.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over earlier results.")] = False,
    device: Device = "auto",
) -> None:
    """Compare VI with MCMC on a toy posterior or a run's test data: table, verdict, pictures, posterior.nc."""
    with one_line_errors():
        from ppl_gen.app import comparing

        asked = comparing.Asked(what, sampler, guide, chains, draws, warmup, steps, limit, engine, seed, out, overwrite)
        comparing.run(asked, lambda folder: _fitted(folder, device), console)


def _fitted(folder: Path, device_name: str) -> tuple[Run, Any, Any, Any, int]:
    """A run, its program with the weights loaded, its data, both on the device; the device, and the epoch of the weights."""
    from ppl_gen.app import build
    from ppl_gen.app.runs import Run

    device = build.device(device_name)
    run = Run.open(folder)
    dataset = build.dataset(run.config)
    program = build.program(run.config, dataset).to(device)
    epoch = run.restore(program, device, data=build.fingerprint(dataset))
    return run, program, dataset.to(device), device, epoch


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What is wrong with the input is one line on stderr and exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo("error: " + " ".join(str(error).split()), err=True)
        raise typer.Exit(2) from None


def main() -> None:
    """Runs the command."""
    app()
