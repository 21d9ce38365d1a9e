"""The commands about what is stored: images and folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..configured import Setup, configured, destination, json_output
from ..run import run

if TYPE_CHECKING:
    from ..destination import Destination
    from ..invocation import Invocation


def _size(_: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    from ringbinder.config.options import size

    if value is None:
        return None
    try:
        return size(int(value) if value.isdigit() else value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not {error}") from None


@click.group("images")
def images() -> None:
    """See and remove the images that are kept, or put them on a newer base."""


@images.command("list")
@json_output
@configured
def list_images(setup: Setup, as_json: bool) -> None:
    """List the images that registry and builder keep, the one launched last first."""

    async def work(invocation: Invocation) -> int:
        from ..images import list_images

        return await list_images(invocation, as_json=as_json)

    run(setup, work)


@images.command("prune")
@click.option(
    "--max-size",
    callback=_size,
    metavar="SIZE",
    help="Keep images of so many bytes at most, such as 20G; 0: none.  [default: the builder's own limits]",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_output
@configured
def prune_images(setup: Setup, max_size: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove images until the others fit into SIZE, the least recently launched first.

    An image on which a notebook runs, of this or of any other Ringbinder on this machine, is never removed.

    Without --max-size, the builder `docker` makes room in its container engine: where more is taken than
    ImageCleaner.threshold_high, images that no container was made from are removed, oldest first, until it is
    less than ImageCleaner.threshold_low.
    """

    async def work(invocation: Invocation) -> int:
        from ..images import prune_by_builder, prune_images

        if max_size is None:
            return await prune_by_builder(invocation, dry_run=dry_run, as_json=as_json)
        return await prune_images(invocation, max_size, dry_run=dry_run, as_json=as_json)

    run(setup, work)


@images.command("rebase")
@click.argument("image", required=False, metavar="NAME", callback=destination)
@click.option("--all", "everything", is_flag=True, help="All that were built here, or that the registry lists.")
@json_output
@configured
def rebase_images(setup: Setup, image: Destination | None, everything: bool, as_json: bool) -> None:
    """Put images of builder `layers` on the base image that is configured now, without a build.

    NAME is REGISTRY/NAME[:TAG] or oci:FOLDER[:TAG], as with `build --to`, and needs no configuration either. An image
    keeps its name and its layers of packages and content; base layers that its registry has are not sent. One that
    does not fit on the new base stays there, with the reason and what to do (exit code 4).
    """
    if bool(image) == everything:
        raise click.UsageError("Name one image, or use --all.")

    async def work(invocation: Invocation) -> int:
        from ..images import rebase_images

        return await rebase_images(invocation, image, as_json=as_json)

    run(setup, work)


@click.command("paths")
@json_output
@configured
def paths(setup: Setup, as_json: bool) -> None:
    """Say where images, sessions and caches are, and how much room they take."""

    async def work(invocation: Invocation) -> int:
        from ..paths import show_paths

        return await show_paths(invocation, as_json=as_json)

    run(setup, work)
