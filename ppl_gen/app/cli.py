"""The command `ppl-gen`. Nothing heavy is imported before a command needs it, so that help answers at once."""

from __future__ import annotations

__all__ = ["app", "main"]

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console

if TYPE_CHECKING:
    from ppl_gen.app.build import Config
    from ppl_gen.app.runs import Run

EXAMPLES = """Deep generative models as probabilistic programs, judged in nats.

**Examples**

* `ppl-gen fit vae` fits a VAE to scikit-learn's digits, with nothing to download

* `ppl-gen fit conv-vae --data mnist --download --latent-dim 50 --out runs/mnist`

* `ppl-gen fit cvae --data photos/ --likelihood gaussian` takes a folder of images, one folder per class

* `ppl-gen fit vae --out runs/mnist --resume` goes on where a run stopped

* `ppl-gen evaluate runs/mnist` prints the test log evidence with its standard error

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
    seed: Annotated[int, typer.Option(help="Seed of weights, order and noise.")] = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/MODEL-DATA if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin the run in --out anew.")] = False,
) -> None:
    """Fit a model to data by SVI, into a run folder."""
    with one_line_errors():
        from ppl_gen.app.build import configure

        if resume and overwrite:
            raise ValueError("expected --resume or --overwrite, got both")
        config = configure(
            model=model,
            data=data,
            root=root,
            binarize=binarize,
            image_size=image_size,
            likelihood=likelihood,
            latent_dim=latent_dim,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            engine=engine,
        )
        folder = out or Path("runs") / f"{model}-{Path(data).stem}"
        given = {f.name for f in fields(config) if str(ctx.get_parameter_source(f.name)).endswith("COMMANDLINE")}
        _fit(folder, config, given | {"model"}, device, resume, overwrite, download)


class _Training(NamedTuple):
    """A run about to begin or to go on, everything on its device."""

    run: Run
    program: Any
    optimizer: Any
    dataset: Any
    fingerprint: str
    done: int


def _fit(
    folder: Path, config: Config, given: set[str], device_name: str, resume: bool, overwrite: bool, download: bool
) -> None:
    from ppl_gen.app import build, report
    from ppl_gen.app.runs import vacant

    device = build.device(device_name)
    if resume:
        training = _resumed(_reopened(folder, config, given), device, download)
    else:
        vacant(folder, overwrite)
        training = _begun(folder, config, device, overwrite, download)
    run, dataset = training.run, training.dataset
    console.print(
        f"{run.config.model} on {report.describe(dataset)}; {device}, engine {run.config.engine}", soft_wrap=True
    )
    _train(training, device)
    report.draw_pictures(run, training.program, dataset, console)
    console.print(f"next: ppl-gen evaluate {folder}", soft_wrap=True)


def _begun(folder: Path, config: Config, device: Any, overwrite: bool, download: bool) -> _Training:
    """A new run, its folder made once all that could be wrong has been looked at."""
    from ppl_gen.app import build
    from ppl_gen.app.runs import Run
    from ppl_gen.inference.engine import plan

    dataset = build.dataset(config, download=download)
    fingerprint = build.fingerprint(dataset)
    program, optimizer = build.trainable(config, dataset, device)
    # Decided once and written down: a run that goes on is the same run.
    steps = config.epochs * len(dataset.train.batches(config.batch_size))
    run = Run.create(folder, replace(config, engine=plan(steps, config.engine)), overwrite)  # type: ignore[arg-type]
    run.checkpoint(0, program, optimizer, device, fingerprint)
    return _Training(run, program, optimizer, dataset.to(device), fingerprint, 0)


def _resumed(run: Run, device: Any, download: bool) -> _Training:
    """An old run with the weights, optimiser and random state of its checkpoint."""
    from ppl_gen.app import build

    dataset = build.dataset(run.config, download=download)
    fingerprint = build.fingerprint(dataset)
    program, optimizer = build.trainable(run.config, dataset, device)
    # A run that was stopped before its first checkpoint begins where that one would have been.
    started = (run.folder / "checkpoint.pt").exists()
    done = run.restore(program, device, optimizer, fingerprint) if started else 0
    if run.config.epochs < done:
        raise ValueError(
            f"the run {run.folder} is at epoch {done}: expected at least as many --epochs, got {run.config.epochs}"
        )
    run.rewind(done)
    run.save_config()
    return _Training(run, program, optimizer, dataset.to(device), fingerprint, done)


def _train(training: _Training, device: Any) -> None:
    """Runs the epochs that are left, with a checkpoint after each that has gone well."""
    from ppl_gen.app import report
    from ppl_gen.inference import NotFinite, iterate, svi_step

    run, program, optimizer, dataset, fingerprint, done = training
    warnings.filterwarnings("ignore", "Encountered (NaN|inf)")  # Pyro's word for what NotFinite says in full
    try:
        batches = dataset.train.batches(run.config.batch_size)
        probe = dataset.test.fixed(0, min(len(dataset.test), 100))
        step = svi_step(program, optimizer, first_step=done * len(batches), engine=run.config.engine)  # type: ignore[arg-type]
        with report.Live(console, batches, done, run.config.epochs) as live:
            for record in iterate(step, live, run.config.epochs, first_epoch=done + 1):
                report.expect_finite(program, probe, record.epoch)
                run.log(record)
                run.checkpoint(record.epoch, program, optimizer, device, fingerprint)
                done = record.epoch
                live.show(record)
    except KeyboardInterrupt:
        said = f"stopped in epoch {done + 1}, which is dropped; the checkpoint of epoch {done} is saved"
        again = f"ppl-gen fit {run.config.model} --out {run.folder} --resume"
        console.print(f"{said}. Go on with: {again}", soft_wrap=True)
        raise typer.Exit(130) from None
    except NotFinite as error:
        raise ValueError(f"{error}. The checkpoint of epoch {done} stays in {run.folder}") from error


def _reopened(folder: Path, config: Config, given: set[str]) -> Run:
    """The run to go on with, under its own configuration; only the number of epochs may be given anew."""
    from ppl_gen.app.runs import Run

    run = Run.open(folder)
    for name in sorted(given - {"epochs"}):
        asked, has = getattr(config, name), getattr(run.config, name)
        if asked != has and (name, asked) != ("engine", "auto"):
            raise ValueError(
                f"the run {folder} was begun with {name} {has}, got {asked}; leave it out, or say another --out"
            )
    return Run(folder, replace(run.config, epochs=config.epochs)) if "epochs" in given else run


@app.command()
def evaluate(
    run_folder: RunFolder,
    particles: Annotated[int, typer.Option(help="Importance samples per datum.")] = 1000,
    limit: Annotated[int | None, typer.Option(help="Score only the first so many test data.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the importance samples.")] = 0,
    device: Device = "auto",
) -> None:
    """Score a run on its test data: importance-weighted log evidence with standard error."""
    with one_line_errors():
        from ppl_gen.app import report

        for name, value in (("--particles", particles), ("--limit", limit)):
            if value is not None and value < 1:
                raise ValueError(f"expected {name} of at least 1, got {value}")
        run, program, dataset, _, epoch = _fitted(run_folder, device)
        report.evaluate(run, program, dataset.test.fixed(0, limit), particles, seed, epoch, console)


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
