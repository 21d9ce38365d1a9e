"""Processes that put images together, whose layers are small files."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from ringbinder import Clock, Context, Descriptor, ImageRegistry, Manifest, Secret, digest_of
from ringbinder.image_reference import Reference
from ringbinder.runtime.services import Services
from ringbinder.testing import make_context
from ringbinder_layers.grouping import Group
from ringbinder_layers.image import CONFIG_TYPE, MANIFEST_TYPE
from ringbinder_layers.index import LayerIndex, NewLayer
from ringbinder_layers.model import Layer, Package, Place
from ringbinder_layers.records import layers_repository
from ringbinder_layers.upload import ImageUpload
from ringbinder_registries.oci import OciRegistry

KEEP_SECONDS: Final = 90 * 86_400.0
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
PLACE: Final = Place("/srv/env", "3.11", "/usr/bin/python3.11", "zstd")


def package(name: str, size: int | None = 1000, version: str = "1", shared: bool = True) -> Package:
    """A wheel of that name."""
    digest = digest_of(f"{name} {version}".encode())
    return Package("wheel", name, version, f"https://index.example/{name}", digest, size, shared)


def alone(packages: Iterable[Package]) -> tuple[Group, ...]:
    """Groups of one package each."""
    return tuple((package,) for package in packages)


def content_of(group: Group) -> bytes:
    """What stands for the layer of a group: as large as its packages are together."""
    names = " ".join(f"{package.name} {package.version}" for package in group).encode()
    return names.ljust(sum(package.size or 0 for package in group), b".")


def layer_of(content: bytes) -> Layer:
    """Its digests are true."""
    return Layer(Descriptor(LAYER_TYPE, digest_of(content), len(content)), digest_of(content))


@define(eq=False)
class Process:
    """One process: its memory and its state are its own, the registry is shared."""

    context: Context
    prefix: str
    made: list[str] = field(factory=list)
    """Names of the packages whose layers it has made."""
    index: LayerIndex = field(init=False)
    before_make: Callable[[Group], Any] = lambda group: None
    """Called with each group before its layer is made."""
    contents: Callable[[Group], bytes] = content_of

    _services: list[Services] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.index = LayerIndex(self.context, layers_repository(self.prefix), KEEP_SECONDS)

    @property
    def registry(self) -> ImageRegistry:
        return self.context.registry

    @property
    def layers(self) -> str:
        """The shared repository."""
        return self.index.name

    def image(self, name: str) -> str:
        """The repository of an image."""
        return f"{self.prefix}{name}"

    def make(self, group: Group) -> AbstractAsyncContextManager[NewLayer]:
        return self._make(group)

    @asynccontextmanager
    async def _make(self, group: Group) -> AsyncIterator[NewLayer]:
        if (waiting := self.before_make(group)) is not None:
            await waiting
        self.made += [package.name for package in group]
        content = self.contents(group)
        with io.BytesIO(content) as file:
            yield NewLayer(layer_of(content), file)

    def upload(self, name: str, **options: Any) -> ImageUpload:
        return ImageUpload(self.index, self.image(name), PLACE, self.make, **options)

    async def build(
        self, name: str, groups: Sequence[Group], text: str = "text", upload: ImageUpload | None = None
    ) -> ImageUpload:
        """Puts an image together from `groups` and a content layer, under the tag ``main``."""
        upload = upload or self.upload(name)
        content = layer_of(text.encode())

        async def assemble() -> Manifest:
            layers = [*await upload.packages(groups), content]
            await upload.put(content.blob, text.encode())
            config = json.dumps({"rootfs": {"diff_ids": [layer.diff_id for layer in layers]}}).encode()
            described = Descriptor(CONFIG_TYPE, digest_of(config), len(config))
            await upload.put(described, config)
            return manifest_of(described, [layer.blob for layer in layers])

        await upload.publish("main", assemble)
        return upload

    async def read(self, name: str) -> list[bytes]:
        """The layers of an image, in their order, read from its own repository and verified there."""
        manifest = await self.registry.read_manifest(self.image(name), "main")
        assert manifest is not None
        return [
            await self.registry.read_small_blob(
                self.image(name), Descriptor(each["mediaType"], each["digest"], each["size"])
            )
            for each in json.loads(manifest.content)["layers"]
        ]

    def path(self, repository: str) -> str:
        """Of a repository, as requests and the registry's storage have it."""
        return Reference.parse(repository).path

    async def close(self) -> None:
        for services in self._services:
            await services.close()


def process_of(
    state: Path,
    prefix: str,
    clock: Clock | None = None,
    kind: type[OciRegistry[Any]] = OciRegistry,
    password: str = "",
    **options: Any,
) -> Process:
    """A process with its state in `state`, whose registry is at the host in `prefix`."""
    login = {"username": "builder", "password": Secret(password)} if password else {}
    given = {"docker_config_path": state / "none.json", "retry_delay": 0.01, "retries": 1, **login, **options}
    of_registry = make_context(state, "oci", clock=clock)
    domain = Reference.parse(f"{prefix}x").domain
    url = f"http://{domain}" if domain else ""
    registry = kind(kind.Config(url=url, image_prefix=prefix, **given), of_registry)
    context = make_context(state, "layers", clock=clock, registry=registry)
    return Process(context, prefix, services=[of_registry.services, context.services])


def manifest_of(config: Descriptor, layers: Sequence[Descriptor]) -> Manifest:
    def described(blob: Descriptor) -> dict[str, Any]:
        return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}

    about = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": described(config)}
    return Manifest(MANIFEST_TYPE, json.dumps({**about, "layers": [described(layer) for layer in layers]}).encode())
