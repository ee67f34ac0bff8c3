"""`ppl-gen explore`: its arguments and options."""

from __future__ import annotations

__all__ = ["explore"]

from typing import Annotated

import typer

from ppl_gen.app.cli.arguments import Device, RunFolder, Seed, Trust
from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.cli.opened import opened


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
            explore_command.explore(opened(run.folder, device, trust), asked, console)
