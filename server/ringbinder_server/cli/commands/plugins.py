"""The commands about plugins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..configured import Setup, configured, json_output
from ..run import run

if TYPE_CHECKING:
    from ..invocation import Invocation


@click.group()
def plugins() -> None:
    """See what is plugged in."""


@plugins.command("list")
@click.option("--hooks", is_flag=True, help="Also the hooks of each plugin, which --json always has.")
@json_output
@configured
def list_plugins(setup: Setup, hooks: bool, as_json: bool) -> None:
    """List the plugins that are installed, the section of each in the configuration, and why one is not active."""

    async def work(invocation: Invocation) -> int:
        from ..plugins import list_plugins

        return await list_plugins(invocation, hooks=hooks, as_json=as_json)

    run(setup, work)


@plugins.command("new")
@click.argument(
    "kind", type=click.Choice(["provider", "registry", "builder", "launcher", "sink", "policy", "auth", "wrapper"])
)
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), help="The folder to make.  [default: ringbinder-KIND-NAME]")
def new_plugin(kind: str, name: str, into: Path | None) -> None:
    """Write a project with a plugin that works: typed code, its contract as tests, a README and a CI file."""
    from ..plugins import write_project

    write_project(kind, name, into)


@plugins.command("show")
@click.argument("name")
@json_output
@configured
def show_plugin(setup: Setup, name: str, as_json: bool) -> None:
    """Show what plugins of this NAME are: where they come from, their hooks, their options and variables."""

    async def work(invocation: Invocation) -> int:
        from ..plugins import show_plugins

        return await show_plugins(invocation, name, as_json=as_json)

    run(setup, work)


@plugins.command("check")
@click.argument("what", required=False, metavar="[NAME|FOLDER]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds that each may take to be imported and looked at.",
)
@configured
def check_plugins(setup: Setup, what: str | None, timeout: float) -> None:
    """Judge installed plugins, those of one NAME, or of a project's FOLDER: import, hooks, options, requirements.

    They are imported in a process of their own, so that one which hangs or ends it is reported as well, and made with
    the defaults of their options; they are not started. Each violation of a rule is described in words. Exit code 6
    if there is an error; a warning is none.
    """

    async def work(invocation: Invocation) -> int:
        from ..plugins import check_plugins

        return await check_plugins(what, timeout)

    run(setup, work)
