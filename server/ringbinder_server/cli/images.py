"""`ringbinder images`: what registry and builder keep, and making pruned."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ringbinder.app import Ringbinder
from ringbinder.errors import UserError
from ringbinder.model import Image, PruneResult

from ..terminal import echo, echo_json
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
