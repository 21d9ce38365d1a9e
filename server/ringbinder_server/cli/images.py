"""`ringbinder images`: what registry and builder keep, pruning it, and putting images on a newer base."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

from attrs import asdict, frozen
from ringbinder.app import Ringbinder
from ringbinder.errors import ConfigError, TransientError, UserError
from ringbinder.model import Declined, Image, PruneResult
from ringbinder.plugins.caller import HookCaller

from ..terminal import echo, echo_json, echo_text
from .destination import Destination
from .exitcodes import ExitCode
from .invocation import Invocation
from .paths import readable_size


async def list_images(invocation: Invocation, *, as_json: bool) -> int:
    """Prints them; raises what the registry raises."""
    async with invocation.app() as app:
        images = sorted(await _images(app), key=_last_use, reverse=True)
    if as_json:
        echo_json([_record(image) for image in images])
    elif not images:
        echo("There are no images.", err=True)
    else:
        echo(f"{'LAUNCHED':16}  {'BUILT':16}  {'SIZE':>9}  {'':6}  IMAGE")
        for image in images:
            launched, built = _time(image.launched_at), _time(image.built_at)
            used = "in use" if image.in_use else ""
            echo(f"{launched:16}  {built:16}  {readable_size(image.size):>9}  {used:6}  {image.name}")
        total = readable_size(sum(image.size or 0 for image in images))
        echo(f"{len(images)} images, {total}; files that they share with the cache count in each.", err=True)
    return ExitCode.OK


async def prune_images(invocation: Invocation, max_size: int, *, dry_run: bool, as_json: bool) -> int:
    """Removes the least recently used ones until the rest fits. An image in use is passed over."""
    async with invocation.app() as app:
        images = sorted(await _images(app), key=_last_use)
        total = sum(image.size or 0 for image in images)
        removed: list[Image] = []
        for image in images:
            if total <= max_size:
                break
            if image.in_use or not (dry_run or await _delete(app, image)):
                continue
            removed.append(image)
            total -= image.size or 0
    if as_json:
        echo_json({"removed": [_record(image) for image in removed], "left": total})
        return ExitCode.OK
    _print_removed(removed, dry_run=dry_run)
    echo(f"{len(images) - len(removed)} images, {readable_size(total)}, are left.", err=True)
    if total > max_size:
        echo("More cannot be removed: notebooks run on them.", err=True)
    return ExitCode.OK


async def prune_by_builder(invocation: Invocation, *, dry_run: bool, as_json: bool) -> int:
    """Has the builder remove what it keeps, by its own limits."""
    async with invocation.app() as app:
        results: list[PruneResult] = []
        for builder in app.plugins.builders:
            pruned = await app.plugins.hooks.prune_images(f"builder:{builder}", dry_run=dry_run)
            results += [pruned] if pruned else []
    if not results:
        message = "say how much may stay, with --max-size: the builder keeps no images by limits of its own"
        echo(f"ringbinder: {message}", err=True)
        return ExitCode.USAGE
    images = [image for pruned in results for image in pruned.removed]
    summary = "; ".join(pruned.summary for pruned in results)
    if as_json:
        echo_json({"removed": [_record(image) for image in images], "summary": summary})
        return ExitCode.OK
    _print_removed(images, dry_run=dry_run)
    echo(f"{summary[:1].upper()}{summary[1:]}.", err=True)
    return ExitCode.OK


async def rebase_images(invocation: Invocation, image: Destination | None, *, as_json: bool) -> int:
    """Has the builder put `image`, or all that are known, on the base that it takes now."""
    async with invocation.app(to=image) as app:
        hooks = app.plugins.hooks
        builders = [key for name in app.plugins.builders if hooks.implements(key := f"builder:{name}", "rebase")]
        if not builders:
            problem = "no builder that is chosen can put an image on another base; `layers` can"
            raise ConfigError([f"Ringbinder.builder: {problem}"])
        results: list[_Rebased] = []
        for name in [image.image] if image else await _known(app):
            result = await _rebase(hooks, builders, name, str(image or name), required=image is not None)
            if result is not None:
                results.append(result)
                if not as_json:
                    echo_text(str(result))
    if as_json:
        echo_json({"images": [asdict(result) for result in results]})
    elif not results:
        echo("There are no images of a builder that can put them on another base.", err=True)
    failed = {result.state for result in results}
    return ExitCode.TRY_AGAIN if "try again" in failed else ExitCode.BUILD if "does not fit" in failed else ExitCode.OK


@frozen
class _Rebased:
    """What became of one image; `why` is for one that has stayed on its base."""

    name: str
    state: Literal["rebased", "unchanged", "does not fit", "try again"]
    digest: str = ""
    why: str = ""

    def __str__(self) -> str:
        end = f"@{self.digest}" if self.digest else f": {self.why}" if self.why else ""
        return f"{self.state:<12}  {self.name}{end}"


async def _rebase(
    hooks: HookCaller, builders: Sequence[str], name: str, shown: str, *, required: bool
) -> _Rebased | None:
    """Asks each builder; None if no one has made the image, or it is no longer there, and it is not `required`."""
    before = Image(name, "oci")
    for builder in builders:
        try:
            after = await hooks.rebase(builder, image=before)
        except TransientError as error:
            return _Rebased(shown, "try again", why=str(error))
        except UserError:
            if required:
                raise
            return None
        if isinstance(after, Declined):
            return _Rebased(shown, "does not fit", why=f"{after.reason}. {after.advice}".strip())
        if after is not None:
            return _Rebased(shown, "unchanged") if after == before else _Rebased(shown, "rebased", after.digest)
    if required:
        raise UserError("image-unknown", f"{shown} was made by no builder that can put it on another base.")
    return None


async def _known(app: Ringbinder) -> list[str]:
    """Names of the images that registry and builders list, and of those that were built here."""
    prefix = app.config.binderhub.image_prefix
    built = await asyncio.to_thread(app.services.store.built_images)
    names = [image.name for image in await _images(app)] + [name for name in built if name.startswith(prefix)]
    return list(dict.fromkeys(names))


def _keepers(app: Ringbinder) -> list[str]:
    return [app.config.settings.chosen["registry"], *(f"builder:{name}" for name in app.plugins.builders)]


async def _images(app: Ringbinder) -> list[Image]:
    """Of the registry, and of a builder that keeps some too."""
    found: dict[str, Image] = {}
    for keeper in _keepers(app):
        answers = await app.plugins.hooks.images(keeper)
        found = {image.name: image for _, images in answers for image in images} | found
    return list(found.values())


async def _delete(app: Ringbinder, image: Image) -> bool:
    gone = False
    try:
        for keeper in _keepers(app):
            gone = bool(await app.plugins.hooks.delete(keeper, image=image)) or gone
    except UserError as error:
        if error.code != "image-in-use":
            raise
    return gone


def _print_removed(images: Sequence[Image], *, dry_run: bool) -> None:
    done = "would remove" if dry_run else "removed"
    for image in images:
        echo(f"{done}  {readable_size(image.size):>9}  {image.name}")


def _last_use(image: Image) -> float:
    return image.launched_at or image.built_at or 0.0


def _time(moment: float | None) -> str:
    return "" if moment is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _record(image: Image) -> dict[str, object]:
    return {
        "name": image.name,
        "size": image.size,
        "built_at": image.built_at,
        "launched_at": image.launched_at,
        "in_use": image.in_use,
        "path": None if image.path is None else str(image.path),
    }
