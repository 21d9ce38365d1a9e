"""The command line: the commands and their options.

Only click is imported here, so that `ringbinder --help` is quick; a command imports its work when it does it.
Exit codes: `exitcodes.ExitCode`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .commands.init import init
from .commands.own_machine import consents, sessions
from .commands.plugins import plugins
from .commands.stored import images, paths
from .configured import Setup, configured, destination, json_output, yes
from .exitcodes import MEANINGS
from .run import run

if TYPE_CHECKING:
    from .destination import Destination
    from .invocation import Invocation

_EXIT_CODES = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {text}" for code, text in MEANINGS.items())
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_AS_JSON = "ringbinder.as_json"


class _Commands(click.Group):
    """Writes wrong usage to stdout as JSON, beside click's text on stderr, where the arguments ask for JSON."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        as_json = "--json" in args
        with _reported(as_json):
            context = super().make_context(info_name, args, *rest, **extra)
        context.meta[_AS_JSON] = as_json
        return context

    def invoke(self, ctx: click.Context) -> Any:
        with _reported(ctx.meta[_AS_JSON]):
            return super().invoke(ctx)


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        if as_json:
            from ringbinder.protocol import failed

            from ..terminal import echo_event

            echo_event(failed(error.format_message(), code="usage-wrong"))
        raise


@click.group(cls=_Commands, context_settings=_CONTEXT, epilog=_EXIT_CODES)
@click.version_option(package_name="ringbinder", message="Ringbinder %(version)s")
def main() -> None:
    """Turns a link to a repository into a running notebook.

    LINK is gh/user/repo/ref, the address of a GitHub or GitLab page, any git address, a link of a Binder site
    (https://mybinder.org/v2/...), or a folder of this machine.
    """


@main.command()
@click.argument("link")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@yes
@json_output
@configured
def launch(link: str, setup: Setup, as_json: bool, no_browser: bool, yes: bool) -> None:
    """Build LINK if need be, start a notebook and open it.

    Runs until the notebook ends or Ctrl-C stops it. Files that you changed are kept, and it is said where.
    A second Ctrl-C ends at once. Where code of LINK runs on this computer, you are asked once per repository;
    a folder of this machine needs no asking. With --json: the events of the launch, one JSON object a line.
    """

    async def work(invocation: Invocation) -> int:
        from .launch import launch_link

        return await launch_link(invocation, link, as_json=as_json, browser=not no_browser, yes=yes)

    run(setup, work)


@main.command()
@click.argument("link")
@click.option(
    "--to",
    metavar="IMAGE",
    callback=destination,
    help="Where the image goes: REGISTRY/NAME[:TAG], or oci:FOLDER[:TAG] for a folder of this machine.",
)
@yes
@json_output
@configured
def build(link: str, setup: Setup, as_json: bool, to: Destination | None, yes: bool) -> None:
    """Build the image of LINK, unless it is there, and print its name.

    With --to, builder `layers` puts the image together, without a container engine and without running code of LINK,
    and it takes the place of what is there under that name (TAG is `latest` where none is given). The last line is its
    name with its digest. Credentials are those of `docker login`, or of the configuration if that is about the same
    registry. Layers are kept in REGISTRY/NAME-layers, for a folder in the cache of this computer: known ones are
    neither made nor sent again.
    """

    async def work(invocation: Invocation) -> int:
        from .launch import build_link

        return await build_link(invocation, link, to=to, as_json=as_json, yes=yes)

    run(setup, work)


@main.command()
@click.argument("link")
@json_output
@configured
def resolve(link: str, setup: Setup, as_json: bool) -> None:
    """Show what LINK means now, and whether its image is there. Builds nothing."""

    async def work(invocation: Invocation) -> int:
        from .resolve import resolve_link

        return await resolve_link(invocation, link, as_json=as_json)

    run(setup, work)


@main.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1; with --public 0.0.0.0]")
@click.option(
    "--public",
    is_flag=True,
    help="Let others reach this server; refused without Ringbinder.access_token or an allow-list.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; 0: a free one.  [default: BinderHub.port, else 8585]"
)
@click.option(
    "--no-token",
    is_flag=True,
    help="Demand no token on one's own machine: each of its programs and users can then launch.",
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@configured
def serve(setup: Setup, host: str | None, port: int | None, public: bool, no_token: bool, no_browser: bool) -> None:
    """Run the web server."""

    async def work(invocation: Invocation) -> int:
        from .serve import serve_pages

        listen = host or ("0.0.0.0" if public else "127.0.0.1")  # noqa: S104
        return await serve_pages(invocation, listen, port, public=public, token=not no_token, browser=not no_browser)

    run(setup, work, quietest="info", own_signals=False)


@main.group()
def events() -> None:
    """Ask what has happened."""


def _duration(_: click.Context, parameter: click.Parameter, value: str) -> float:
    from ringbinder.config.options import seconds

    try:
        return seconds(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not {error}", param=parameter) from None


@events.command("query")
@click.option(
    "--since", default="30d", show_default=True, callback=_duration, help="How far back, such as 12h, 30d or 26w."
)
@click.option(
    "--by",
    multiple=True,
    metavar="FIELD",
    help="Count for each value of it: repo, provider, schema, any field of the event, or hour, day, month, "
    "year. May be repeated.",
)
@click.option(
    "--schema", default="binderhub.jupyter.org/launch", show_default=True, help="Which events; * stands for any text."
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="Rows at most.")
@json_output
@configured
def query_events(setup: Setup, since: float, by: tuple[str, ...], schema: str, limit: int, as_json: bool) -> None:
    """Count events, such as the launches of each repository, that the sink `sqlite` has kept."""

    async def work(invocation: Invocation) -> int:
        from .events import query_events

        return await query_events(invocation, schema=schema, since=since, by=by, limit=limit, as_json=as_json)

    run(setup, work)


@events.command("catalogue")
def catalogue() -> None:
    """Print the schemas of Ringbinder's own events, each with its question, as Markdown."""
    from .events import print_catalogue

    print_catalogue()


@main.command()
@json_output
@configured
def doctor(setup: Setup, as_json: bool) -> None:
    """Ask every active plugin whether what it needs is there, and say how to fix what is not.

    Registries are asked whether they answer, accept the credentials and let images be pushed (an upload that is
    cancelled).
    """

    async def work(invocation: Invocation) -> int:
        from .doctor import examine

        return await examine(invocation, as_json=as_json)

    run(setup, work)


@main.group("config")
def configuration() -> None:
    """Judge configuration files."""


@configuration.command("check")
@click.argument("more", nargs=-1, metavar="FILE...", type=click.Path(path_type=Path))
@json_output
@configured
def check(more: tuple[Path, ...], setup: Setup, as_json: bool) -> None:
    """Say what the configuration FILEs, Helm values among them, choose and every problem in them."""
    setup = setup._replace(files=(*setup.files, *more))

    async def work(invocation: Invocation) -> int:
        from .check import check_files

        return await check_files(invocation, as_json=as_json)

    run(setup, work)


@configuration.command("schema")
def schema() -> None:
    """Print the JSON Schema of a configuration file, with the options of every installed plugin, for editors."""
    from .check import print_schema

    print_schema()


main.add_command(plugins)
main.add_command(consents)
main.add_command(sessions)
main.add_command(images)
main.add_command(paths)
main.add_command(init)
