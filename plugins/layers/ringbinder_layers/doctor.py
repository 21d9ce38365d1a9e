"""What `ringbinder doctor` finds out about putting images together."""

from __future__ import annotations

from collections.abc import Sequence

from ringbinder import ConfigError, Context, Finding, RingbinderError

from .base import BaseImages
from .image import compression
from .model import Base
from .options import LayersBuilderOptions

NO_BLOBS = "the builder 'layers' pushes layers itself, which the chosen registry does not take"
CHOOSE = "set Ringbinder.registry to oci, dockerhub or gcr, or choose another builder"


async def examine(context: Context, options: LayersBuilderOptions, bases: BaseImages) -> Sequence[Finding]:
    """Does the registry take layers, can images be made on the base, and how are they compressed."""
    if not context.registry.takes_blobs:
        return [Finding("error", NO_BLOBS, CHOOSE)]
    try:
        base = await bases.get()
    except ConfigError as error:
        return [Finding("error", *problem.split("; ", 1)) for problem in error.problems]
    except RingbinderError as error:
        return [Finding("error", f"the base image {options.base_image} cannot be read: {error}")]
    return [Finding("ok", _described(options.base_image, base)), _compression(options, base)]


def _described(name: str, base: Base) -> str:
    versions = ", ".join(base.pythons)
    libc = ".".join(map(str, base.libc))
    return f"images are made on {name} ({base.platform}, Python {versions}, glibc {libc})"


def _compression(options: LayersBuilderOptions, base: Base) -> Finding:
    kind = compression(options.compression, base)
    why = "as the base image is (LayersBuilder.compression: auto)" if options.compression == "auto" else "as configured"
    message = f"layers are compressed with {kind}, {why}"
    if kind == "zstd":
        return Finding("ok", f"{message}: nodes need containerd 1.5 or Docker 23")
    return Finding("ok", message)
