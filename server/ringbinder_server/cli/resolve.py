"""`ringbinder resolve`: what a link means now."""

from __future__ import annotations

from ringbinder.model import LaunchRequest

from ..terminal import echo, echo_json
from .exitcodes import ExitCode
from .invocation import Invocation
from .launch import link_in


async def resolve_link(invocation: Invocation, text: str, *, as_json: bool) -> int:
    """Prints what `text` resolves to. Raises what a provider or the registry raises."""
    async with invocation.app() as app:
        link = link_in(app, text)
        repo = await app.resolve(LaunchRequest(link.provider, link.spec, link.urlpath, local=True))
        plan, image = await app.find(repo)
    for notice in repo.notices:
        echo(notice.rstrip("\n"), err=True)
    found = {
        "provider": link.provider,
        "spec": link.spec,
        "resolved_spec": repo.resolved_spec,
        "ref": repo.ref,
        "repo_url": repo.url,
        "ref_url": repo.ref_url,
        "urlpath": link.urlpath if repo.urlpath is None else repo.urlpath,
        "image": plan.image,
        "image_exists": image is not None,
    }
    if as_json:
        echo_json(found, indent=None)
    else:
        width = max(map(len, found))
        for name, value in found.items():
            shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
            echo(f"{name.replace('_', ' '):<{width}}  {shown}".rstrip())
    return ExitCode.OK
