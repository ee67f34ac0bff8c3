"""The command `ppl-gen`.

Torch and Pyro are imported when a command needs them, so that help answers at once.
"""

from __future__ import annotations

__all__ = ["app", "main"]

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppl_gen.app.arguments import (
    Count,
    DataNow,
    Device,
    Engine,
    OtherDataNow,
    Overwrite,
    RootNow,
    RunFolder,
    Seed,
    Trust,
    names_given,
    with_options_of_models,
)
from ppl_gen.app.launched import expect_alone, leading, named, together
from ppl_gen.app.output import not_needed
from ppl_gen.app.parts.listed import LISTED
from ppl_gen.app.recipes import RECIPES
from ppl_gen.app.signals import STOPS, Terminated, heed, heeded, stopped, what_came
from ppl_gen.app.terminal import Terminal, warnings_as_lines
from ppl_gen.app.wording import in_options
from ppl_gen.names import spelled_out

if TYPE_CHECKING:
    from ppl_gen.app.evaluation.asked import Asked
    from ppl_gen.app.run.opened import Fitted

_LOST = ": what was worked out is lost, and nothing was written"

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

* `ppl-gen evaluate runs/mnist` prints the test log evidence with its standard error

* `ppl-gen evaluate runs/mnist --ais --bdmc --gaps --collapse` says how good that number, the
  guide and the latents are

* `ppl-gen evaluate runs/mnist --moments --two-sample` holds its draws against test data, as it
  does for a GAN

* `ppl-gen evaluate runs/vae-digits runs/dcgan-digits` puts runs of the same data into one table

* `ppl-gen fit vae --objective iwae --particles 50` takes a tighter bound

* `ppl-gen compare eight-schools` holds variational inference against MCMC; so does
  `ppl-gen compare runs/mnist`

* `ppl-gen sample runs/mnist` and `ppl-gen reconstruct runs/mnist` draw pictures;
  `ppl-gen sample runs/mnist --out draws.npz` writes arrays

* `ppl-gen sweep dimensions` runs an experiment into one table and one picture;
  `ppl-gen sweep --list` names them all, `ppl-gen sweep my.toml` runs one of your own

* `ppl-gen compress runs/mnist mnist digits.bits` puts the test digits into as few bits as the
  bound says; `ppl-gen decompress runs/mnist digits.bits digits.npy` gives them back

* `ppl-gen explore runs/mnist --manifold --neighbours 3 --interpolate 0 7` looks at its codes

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
console = Terminal()


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


@app.command()
@with_options_of_models
def fit(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="|".join(RECIPES), help="The model to fit.")],
    *,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch what is missing.")
    ] = False,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; runs/MODEL-DATA if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin the run in --out anew.")
    ] = False,
    trust: Trust = False,
    **options: Any,
) -> None:
    """Fit a model to data, into a run folder: by SVI, against a critic, or by matching moments."""
    with one_line_errors(alone=False), together(device, console) as ranks:
        from ppl_gen.app.commands import fit as fit_command
        from ppl_gen.app.commands import fit_along
        from ppl_gen.app.configure import configure, folder_of

        if not ranks.is_first:
            fit_along.fit_along(ranks, device, download)
            return
        with leading(ranks):
            if resume and overwrite:
                raise ValueError("expected --resume or --overwrite, got both")
            if trust and not resume:
                raise ValueError(
                    "--trust belongs to --resume, got it alone; leave it out: what is named here "
                    "is run anyway"
                )
            given = names_given(ctx) & options.keys()
            config = configure(model, options, given)
        fit_command.fit(
            out or folder_of(model, options),
            config,
            given,
            device_name=device,
            resume=resume,
            overwrite=overwrite,
            download=download,
            trust=trust,
            console=console,
            ranks=ranks,
        )


@app.command()
def evaluate(
    ctx: typer.Context,
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="The folder of a run, or of several.")
    ],
    particles: Annotated[int, typer.Option(help="Importance samples per datum.")] = 1000,
    limit: Annotated[
        int | None, typer.Option(help="Score only this many test data, from the first.")
    ] = None,
    ais: Annotated[
        bool, typer.Option("--ais", help="Also by annealed importance sampling, a tighter bound.")
    ] = False,
    bdmc: Annotated[
        bool, typer.Option("--bdmc", help="Bounds from both sides, on data drawn from the model.")
    ] = False,
    gaps: Annotated[
        bool, typer.Option("--gaps", help="What the guide's family and its network lose, in nats.")
    ] = False,
    collapse: Annotated[bool, typer.Option("--collapse", help="Which latents are used.")] = False,
    moments: Annotated[
        bool, typer.Option("--moments", help="Which moments of the draws are off, and how far.")
    ] = False,
    two_sample: Annotated[
        bool, typer.Option("--two-sample", help="Distances of draws from test data, with p-values.")
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="What draws and data are compared in: pixels, pca, classifier (needs labels) or "
            "inception (needs colour images)."
        ),
    ] = None,
    permutations: Annotated[int, typer.Option(help="Permutations for each p-value.")] = 500,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Score under Gaussian noise of this size, which gives any model a likelihood; 0.1 "
            "for several runs."
        ),
    ] = None,
    chains: Annotated[
        int, typer.Option(help="AIS chains per datum, for --ais, --bdmc, --gaps and --epsilon.")
    ] = 16,
    temperatures: Annotated[int, typer.Option(help="Steps of each of these chains.")] = 1000,
    subset: Annotated[
        int, typer.Option(help="Run these chains on this many test data, from the first.")
    ] = 100,
    seed: Seed = 0,
    data: DataNow = None,
    data_b: OtherDataNow = None,
    root: RootNow = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results of several runs; beside the first run if left out."
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Score a run on its test data: by its log evidence, or by its draws if it has no likelihood.

    Several runs on the same data are put into one table.
    """
    with one_line_errors():
        from ppl_gen.app.configure import places_of
        from ppl_gen.app.evaluation.asked import Asked

        asked = Asked(
            particles=particles,
            limit=limit,
            ais=ais,
            bdmc=bdmc,
            gaps=gaps,
            collapse=collapse,
            moments=moments,
            two_sample=two_sample,
            features=features,
            permutations=permutations,
            epsilon=epsilon,
            chains=chains,
            temperatures=temperatures,
            subset=subset,
            seed=seed,
            given=frozenset(names_given(ctx)),
        )
        asked.expect_counts()
        asked.expect_for(len(run_folders))
        places = places_of({"data": data, "data_b": data_b, "root": root})
        if len(run_folders) > 1:
            runs = [_opened(folder, device, trust, places) for folder in run_folders]
            _judge_runs(runs, asked, out, overwrite)
        else:
            _judge_run(run_folders[0], asked, lambda run: _opened(run, device, trust, places))


def _judge_run(folder: Path, asked: Asked, opened: Callable[[Path], Fitted]) -> None:
    """Judges one run, which nobody else writes to meanwhile."""
    from ppl_gen.app.commands import evaluate as evaluate_command
    from ppl_gen.app.run.folder import Run

    with Run.held(folder) as run:
        evaluate_command.evaluate(opened(run.folder), asked, console)


def _judge_runs(runs: list[Fitted], asked: Asked, out: Path | None, overwrite: bool) -> None:
    """Judges several runs on the same data, into one table."""
    from ppl_gen.app.commands import evaluate_runs

    evaluate_runs.judge_runs(runs, asked, out, overwrite, console)


@app.command()
def sample(
    run_folder: RunFolder,
    count: Annotated[
        int, typer.Option(help="How many, at most 1000 in a picture or a folder.")
    ] = 100,
    label: Annotated[
        str | None,
        typer.Option(
            help="The label, by its name or number, or the value of a latent code, to draw under; "
            "ten of each if left out."
        ),
    ] = None,
    caption: Annotated[
        str | None, typer.Option(help='A caption to condition on: "a thick slanted seven".')
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where they go: draws.npy or draws.npz as arrays, draws.csv in the units of a "
            "table's columns, draws.png as one picture, or a folder with a PNG for each; "
            "samples.png in the run if left out."
        ),
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Draw samples of a run into samples.png, or into files of their own.

    Images are means of the likelihood, without its noise.
    """
    with one_line_errors():
        from ppl_gen.app.run import exports, pictures, progress
        from ppl_gen.app.run.folder import Run

        is_array = out is not None and out.suffix.lower() in (".npy", ".npz", ".csv", ".tsv")
        progress.expect_count(count, many=is_array)
        if overwrite and out is None:
            raise ValueError(
                "--overwrite belongs to --out, got it alone; leave it out: samples.png is always "
                "drawn anew"
            )
        alone = is_array or not pictures.shows_data(Run.open(run_folder).config)
        fitted = _opened(run_folder, device, trust, alone=alone)
        if out is None:
            out = run_folder / pictures.name_of_samples(fitted)
        else:
            exports.check_place(out, fitted, overwrite)
        drawn = pictures.draw_samples(fitted, count, label, caption, seed)
        exports.export(fitted, drawn, out)
        console.print(f"written to {out}", soft_wrap=True)


@app.command()
def reconstruct(
    run_folder: RunFolder,
    count: Count = 36,
    data: Annotated[
        str | None,
        typer.Option(
            help="Other data, by name or path, whose test data are taken: what the run makes of "
            "what it was not fitted to."
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Draw test data beside their reconstructions into reconstructions.png.

    Those of other data go into reconstructions-DATA.png.
    """
    with one_line_errors():
        from ppl_gen.app.run import pictures, progress

        progress.expect_count(count)
        if overwrite and data is None:
            raise ValueError(
                "--overwrite belongs to --data, got it alone; leave it out: reconstructions.png is "
                "always drawn anew"
            )
        fitted = _opened(run_folder, device, trust)
        if data is None:
            path = pictures.reconstructions(fitted, count)
        else:
            path, said = pictures.reconstructions_of(fitted, data, count, overwrite)
            console.print(said, soft_wrap=True)
        console.print(f"written to {path}", soft_wrap=True)


@app.command()
def explore(
    run_folder: RunFolder,
    manifold: Annotated[
        bool,
        typer.Option("--manifold", help="Decode a lattice of the prior's quantiles, of 2 latents."),
    ] = False,
    traverse: Annotated[
        bool, typer.Option("--traverse", help="Move each latent of --datum, the others held.")
    ] = False,
    interpolate: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="A B", help="Go from one test datum to another."),
    ] = None,
    walk: Annotated[
        bool, typer.Option("--walk", help="Walk at random where the prior is.")
    ] = False,
    neighbours: Annotated[
        int | None,
        typer.Option(metavar="I", help="Find the training data nearest to a test datum, and P@10."),
    ] = None,
    overlap: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="I J", help="Decode between the posteriors of two test data."),
    ] = None,
    attributes: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B", help="A grid of two attributes: thickness, slant, or the data's own."
        ),
    ] = None,
    impute: Annotated[
        bool, typer.Option("--impute", help="Fill in a band of pixels, in one pass and better.")
    ] = False,
    anomaly: Annotated[
        bool, typer.Option("--anomaly", help="Tell novel test data from usual ones; see --novel.")
    ] = False,
    latents: Annotated[
        bool, typer.Option("--latents", help="Draw 2 or 3 latents with the ellipses of q(z | x).")
    ] = False,
    aggregate: Annotated[
        bool, typer.Option("--aggregate", help="Draws of E q(z | x) beside those of the prior.")
    ] = False,
    over_epochs: Annotated[
        bool, typer.Option("--over-epochs", help="Animate the latents of a fit with --keep-every.")
    ] = False,
    novel: Annotated[
        str | None,
        typer.Option(
            help="What is novel for --anomaly: a label of the test data, or other data; if left "
            "out, labels that no training datum has, as of --data digits:without-3."
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="The label to decode under, by name or number; each if left out."),
    ] = None,
    datum: Annotated[
        int, typer.Option(help="The test datum whose code --traverse and --attributes move.")
    ] = 0,
    within: Annotated[
        float | None,
        typer.Option(help="Lattices evenly spaced up to this, not by the prior's quantiles."),
    ] = None,
    side: Annotated[int, typer.Option(help="Codes along each side of --manifold.")] = 20,
    limit: Annotated[
        int | None, typer.Option(help="Encode only this many test data, from the first.")
    ] = None,
    seed: Seed = 0,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Look at the codes of a run: pictures into its folder, numbers into explore.json."""
    with one_line_errors():
        from ppl_gen.app.commands import explore as explore_command
        from ppl_gen.app.exploration.asked import Asked
        from ppl_gen.app.run.folder import Run

        asked = Asked(
            manifold=manifold,
            traverse=traverse,
            interpolate=interpolate,
            walk=walk,
            neighbours=neighbours,
            overlap=overlap,
            attributes=attributes,
            impute=impute,
            anomaly=anomaly,
            latents=latents,
            aggregate=aggregate,
            over_epochs=over_epochs,
            novel=novel,
            label=label,
            datum=datum,
            within=within,
            side=side,
            limit=limit,
            seed=seed,
        )
        asked.expect_sound()
        with Run.held(run_folder) as run:
            explore_command.explore(_opened(run.folder, device, trust), asked, console)


@app.command()
def translate(
    run_folder: RunFolder,
    images: Annotated[
        str, typer.Argument(metavar="IMAGES", help="A folder, a file, or a data set's test images.")
    ],
    side: Annotated[str, typer.Option("--from", metavar="a|b", help="The domain of the images.")],
    to: Annotated[Path, typer.Option(help="Folder for the translations, a PNG for each.")],
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Resize the images to this many pixels a side, after the suffixes of the run's "
            "domain; the run's own --image-size if left out."
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Translate images of one domain of a run into its other domain."""
    with one_line_errors():
        from ppl_gen.app.commands import translate as translate_command

        fitted = _opened(run_folder, device, trust)
        translate_command.translate(
            fitted,
            side,
            images,
            to=to,
            image_size=image_size,
            overwrite=overwrite,
            console=console,
        )


@app.command()
def compare(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|RUN", help="A toy posterior (eight-schools, ppca, ...) or a run."
        ),
    ],
    sampler: Annotated[str, typer.Option(help="hmc, all chains at once, or nuts, Pyro's.")] = "hmc",
    guide: Annotated[
        str, typer.Option(help="mean-field or full-covariance, for a toy; a run has its own.")
    ] = "mean-field",
    chains: Annotated[
        int | None, typer.Option(help="Chains; 64 for hmc (16 on a run), 4 for nuts.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of each chain.")] = 500,
    warmup: Annotated[int, typer.Option(help="Iterations of each chain before its draws.")] = 500,
    steps: Annotated[int, typer.Option(help="SVI steps of a toy's guide.")] = 3000,
    limit: Annotated[int, typer.Option(help="Test data of a run, from the first.")] = 20,
    engine: Engine = "auto",
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; runs/compare-NAME, or RUN/compare, if left out."
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Compare variational inference with MCMC on a toy posterior or on test data of a run.

    The results are a table, a verdict, pictures and posterior.nc.
    """
    with one_line_errors():
        from ppl_gen.app.commands import compare as compare_command

        asked = compare_command.CompareOptions(
            what=what,
            sampler=sampler,
            guide=guide,
            chains=chains,
            draws=draws,
            warmup=warmup,
            steps=steps,
            limit=limit,
            engine=engine,
            seed=seed,
            out=out,
            overwrite=overwrite,
            given=frozenset(names_given(ctx)),
        )
        compare_command.run(asked, lambda folder: _opened(folder, device, trust), console)


@app.command()
def sweep(
    what: Annotated[
        str | None,
        typer.Argument(metavar="PRESET|FILE", help="A preset of --list, or a .toml file."),
    ] = None,
    list_presets: Annotated[
        bool, typer.Option("--list", help="List all presets, one a line.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Data of a preset: digits for a look, mnist at its full settings."),
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Folder of the data sets that torchvision downloads.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch what is missing.")
    ] = False,
    scale: Annotated[
        float | None,
        typer.Option(help="Multiply a preset's epochs, draws and repetitions: 0.1 for a trial."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Cells that run side by side; one to a core if left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The sweep's folder; runs/sweep-NAME if left out.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Run anew what is finished.")
    ] = False,
) -> None:
    """Run an experiment over many settings, into one table and one picture with intervals.

    What is finished is kept: the same command goes on where it was stopped. A file has a table
    [fit] with a model and options, one [axes] with lists of their values, and one [evaluate].
    """
    with one_line_errors():
        from ppl_gen.app.commands import sweep as sweep_command

        if list_presets:
            sweep_command.list_presets(console)
            return
        if what is None:
            raise ValueError("expected a preset or a file, got neither; --list names the presets")
        asked = sweep_command.SweepOptions(
            what=what,
            data=data,
            root=root,
            download=download,
            scale=scale,
            jobs=jobs,
            out=out,
            overwrite=overwrite,
        )
        sweep_command.sweep(asked, console)


@app.command()
def compress(
    run_folder: RunFolder,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A data set, of which the test data are taken as they are scored; or a .npy or "
            ".npz file, of which all are.",
        ),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where they are written to.")],
    precision: Annotated[int, typer.Option(help="Bits of a latent, from 4 to 22.")] = 16,
    limit: Annotated[
        int | None, typer.Option(help="Compress only this many data, from the first.")
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
) -> None:
    """Compress data without loss into −ELBO / ln 2 bits each, by a run's program and guide.

    The lengths of PNG, bz2 and JPEG-2000 are printed beside it.
    """
    with one_line_errors():
        from ppl_gen.app.commands import compress as compress_command

        compress_command.expect_free(file, overwrite)
        fitted = _opened(run_folder, "cpu", trust)
        compress_command.compress(
            fitted,
            data,
            file,
            precision=precision,
            limit=limit,
            console=console,
        )


@app.command()
def decompress(
    run_folder: RunFolder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `ppl-gen compress` has written.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT.npy", help="The file that gets the data as an array.")
    ],
    overwrite: Overwrite = False,
    trust: Trust = False,
) -> None:
    """Give back what `compress` has written, every value as it was."""
    with one_line_errors():
        from ppl_gen.app.commands import compress as compress_command

        compress_command.expect_free(out, overwrite, ending=".npy")
        fitted = _opened(run_folder, "cpu", trust, alone=True)
        compress_command.decompress(fitted, file, out, console=console)


@app.command()
def parts(
    table: Annotated[
        str | None,
        typer.Argument(metavar="[" + "|".join(LISTED) + "]", help="One table; all if left out."),
    ] = None,
) -> None:
    """List the parts that can be named, one a line, each with an example that can be pasted."""
    with one_line_errors():
        from ppl_gen.app.commands import parts as parts_command

        parts_command.show(table, console)


def _opened(
    folder: Path,
    device: str,
    trust: bool,
    places: Mapping[str, str] | None = None,
    alone: bool = False,
) -> Fitted:
    """The run of a folder, with what the user is to know of it printed."""
    from ppl_gen.app.run.opened import Fitted

    fitted = Fitted.open(folder, device, places, trust=trust, alone=alone)
    if fitted.remark:
        console.print(fitted.remark, soft_wrap=True)
    return fitted


@contextmanager
def one_line_errors(*, alone: bool = True) -> Iterator[None]:
    """Ends a command that cannot go on in one line on stderr.

    A ValueError, an OSError or the end of memory exits with code 2; Ctrl-C and signals that ask for
    the end with 128 and their number, where the command has not said more of what is lost. Warnings
    are lines as well.

    Args:
        alone: Whether the command is one process, and refused where torchrun starts it as several.
    """
    with not_needed(), heeded(), warnings_as_lines(console):
        try:
            if alone:
                expect_alone()
            yield
        except STOPS as stop:
            raise stopped(stop, _LOST) from None
        except Exception as error:
            end = _end(error)
            if end is None:
                raise
            raise end from None


def _end(error: Exception) -> typer.Exit | None:
    """How a command ends at an error; None where the error is a fault of the library's."""
    stop = what_came()
    if stop is not None and not isinstance(error, typer.Exit):
        return stopped(stop, _LOST)
    if isinstance(error, ValueError | OSError):
        return _refusal(str(error))
    from ppl_gen.memory import is_exhausted, shortage

    if is_exhausted(error):
        return _refusal(shortage(error))
    return None


def _refusal(why: str) -> typer.Exit:
    """The end of a command that cannot go on, with a line on stderr."""
    line = in_options(" ".join(why.split()))
    with suppress(OSError):  # which may be gone
        typer.echo(f"error{named()}: {spelled_out(line)}", err=True)
    return typer.Exit(2)


def main() -> None:
    """Runs the command, whose process heeds signals to its very end."""
    heed()
    try:
        app()
    except Terminated as stop:
        raise SystemExit(stopped(stop, "").exit_code) from None
