"""What every registry must do, as tests."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import pytest
from attrs import evolve, frozen

from ..errors import DigestMismatch, MissingBlob, TransientError
from ..model import Descriptor, Image, Manifest, Plan, Target, digest_of
from ..plugins.image_registry import ImageRegistry
from .context import descendants, image_registry, left_over
from .rules import contract

_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_LARGE: Final = 3 * 2**20 + 1


@frozen(kw_only=True)
class RegistryCase:
    """What to test a registry with. `folder_plan` makes plans."""

    registry: Any
    """The plugin, made."""
    plan: Plan
    """Of an image that is not there."""
    publish: Callable[[Plan, Target], Awaitable[None]]
    """What builder and `push` do: puts a whole image there, with the right that `target` gives."""
    remove: Callable[[Plan], Awaitable[None]] | None = None
    """Takes the image away again, behind the registry plugin's back."""
    down: Callable[[], AbstractAsyncContextManager[None]] | None = None
    """While entered, the other side does not answer; None for a registry that has no other side."""
    stalled: Callable[[], AbstractAsyncContextManager[asyncio.Event]] | None = None
    """While entered, the other side takes its time; the event is set once it has been asked."""
    expire: Callable[[], None] | None = None
    """Ends the life of all credentials handed out so far; None where they do not end by themselves."""
    secrets: Sequence[str] = ()
    """Passwords and tokens that the case uses: they must not show anywhere."""
    deletes: bool = True
    """It removes tags and manifests; only of a registry that takes blobs."""

    @property
    def repository(self) -> str:
        """Of the plan's image."""
        return self.plan.image.rpartition(":")[0]

    def takes_blobs(self) -> ImageRegistry:
        """As builders see it that assemble images themselves; skips the test if they cannot use it."""
        if not hasattr(self.registry, "put_blob"):
            pytest.skip("this registry takes no blobs from builders")
        return image_registry(self.registry)

    async def check(self, *, fresh: bool) -> Image | None:
        found = await self.registry.check(plan=self.plan, fresh=fresh)
        assert found is None or isinstance(found, Image), f"Rule: check gives an Image or None, not {found!r}."
        return found

    async def target(self, plan: Plan | None = None) -> Target:
        target = await self.registry.target(plan=plan or self.plan)
        assert isinstance(target, Target), f"Rule: target gives a Target, not {target!r}."
        return target


@contract("registry")
class RegistryContract:
    """Subclass it as ``Test...`` and give the fixture `case`."""

    @pytest.fixture
    async def case(self) -> Any:
        raise NotImplementedError("give a fixture `case` that returns or yields a RegistryCase")

    async def test_what_is_not_there_is_not_found(self, case: RegistryCase) -> None:
        """None means "build it"."""
        for fresh in (False, True):
            assert await case.check(fresh=fresh) is None, "Rule: check gives None for what is not there."

    async def test_target_shows_where_and_with_what_right(self, case: RegistryCase) -> None:
        """A builder writes where `target` says, with credentials that no text form shows."""
        target = await case.target()
        assert target.kind == case.registry.holds, "Rule: a target is of the kind that the registry holds."
        if target.kind == "folder":
            assert target.folder is not None, "Rule: a target of kind folder has a folder."
            assert not target.folder.exists() or not any(target.folder.iterdir()), (
                "Rule: the folder of a target is not there yet, or empty."
            )
        else:
            assert target.reference == case.plan.image, "Rule: the reference of a target is the plan's image."
        for secret in case.secrets:
            assert secret not in repr(target), "Rule: no secret shows in a target."
        if target.credentials is not None:
            login = json.loads(target.credentials.reveal())
            assert set(login) == {"registry", "username", "password"}, (
                "Rule: the credentials of a target are JSON with registry, username and password."
            )
            assert all(isinstance(value, str) and value for value in login.values()), (
                "Rule: registry, username and password of a target are text, and not empty."
            )

    async def test_what_was_published_is_found(self, case: RegistryCase) -> None:
        """What a builder has written to the target is there for the next launch, under the plan's name."""
        assert await case.check(fresh=False) is None
        await case.publish(case.plan, await case.target())
        for fresh in (True, False):
            image = await case.check(fresh=fresh)
            assert image is not None, "Rule: check finds what was published, also after it found nothing."
            assert image.name == case.plan.image, "Rule: the image has the name of the plan."
            assert image.kind == case.registry.holds, "Rule: it is of the kind that the registry holds."

    async def test_another_tag_is_another_image(self, case: RegistryCase) -> None:
        """Tags are commits: an image of another commit is not this one."""
        await case.publish(case.plan, await case.target())
        name, _, _ = case.plan.image.rpartition(":")
        other = evolve(case.plan, image=f"{name}:another")
        assert await case.registry.check(plan=other, fresh=True) is None, "Rule: the tag is part of the name."

    async def test_a_fresh_look_trusts_no_memory(self, case: RegistryCase) -> None:
        """After a build core asks past every cache whether the image is really there."""
        if case.remove is None:
            pytest.skip("the case cannot take an image away")
        await case.publish(case.plan, await case.target())
        assert await case.check(fresh=False) is not None
        await case.remove(case.plan)
        assert await case.check(fresh=True) is None, "Rule: a fresh check looks again."
        assert await case.check(fresh=False) is None, "Rule: what a fresh check has found out is not forgotten."

    async def test_an_outage_is_no_absence(self, case: RegistryCase) -> None:
        """Taken for "not there", an outage would have everything built again."""
        if case.down is None:
            pytest.skip("this registry has no other side")
        async with case.down():
            with pytest.raises(TransientError) as caught:
                await case.check(fresh=True)
        assert str(caught.value).strip(), "Rule: an error says what happened."
        for secret in case.secrets:
            assert secret not in str(caught.value), "Rule: no secret shows in a message."
        assert await case.check(fresh=True) is None, "Rule: an outage is not remembered."

    async def test_credentials_work_when_they_are_handed_out(self, case: RegistryCase) -> None:
        """A build takes long: its credentials are new when it begins."""
        if case.expire is None:
            pytest.skip("this registry's credentials do not end by themselves")
        first = await case.target()
        assert await case.check(fresh=True) is None
        case.expire()
        second = await case.target()
        assert first.credentials != second.credentials, "Rule: credentials whose life is over are not reused."
        await case.publish(case.plan, second)
        assert await case.check(fresh=True) is not None, "Rule: check gets itself new credentials as well."

    async def test_cancelled_check_leaves_nothing(self, case: RegistryCase) -> None:
        """A client may leave while the registry does not answer."""
        if case.stalled is None:
            pytest.skip("the case cannot stall the other side")
        before = descendants()
        async with case.stalled() as asked:
            task = asyncio.ensure_future(case.check(fresh=True))
            waiter = asyncio.ensure_future(asked.wait())
            await asyncio.wait({task, waiter}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            assert not task.done(), f"the case did not stall it: {task}"
            assert waiter.done(), "the other side was not asked within 60 s"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not await left_over(before), "Rule: a cancelled check leaves no process."
        assert await case.check(fresh=True) is None, "Rule: a cancelled check does not spoil the next one."

    # -- registries that take blobs from builders which assemble images themselves ---------------------------

    async def test_blob_that_was_put_is_found_and_read(self, case: RegistryCase) -> None:
        """For builders that assemble images: a layer that was sent can be found, and read from any offset."""
        registry = case.takes_blobs()
        blob = _blob(b"a layer")
        assert await registry.find_blob(case.repository, blob.digest) is None, "Rule: a blob that is not there is None."
        outcome = await registry.put_blob(case.repository, blob, b"a layer")
        assert outcome == "uploaded", "Rule: a blob that was sent is reported as uploaded."
        found = await registry.find_blob(case.repository, blob.digest)
        assert found is not None, "Rule: find_blob finds what was put."
        assert (found.digest, found.size) == (blob.digest, blob.size), "Rule: find_blob gives digest and size."
        assert await registry.read_small_blob(case.repository, blob) == b"a layer", (
            "Rule: a blob is read as it was put."
        )

    async def test_known_blob_is_not_sent_again(self, case: RegistryCase) -> None:
        """A base image's layers are large, and there from the second build on."""
        registry = case.takes_blobs()
        blob = _blob(b"known")
        await registry.put_blob(case.repository, blob, b"known")

        def never(offset: int) -> AsyncIterator[bytes]:
            raise AssertionError("Rule: the content of a blob that is there is not opened.")

        outcome = await registry.put_blob(case.repository, blob, never)
        assert outcome == "present", "Rule: a blob that is there is reported as present."

    async def test_blob_of_another_repository_is_mounted(self, case: RegistryCase) -> None:
        """What another repository of this registry has need not be sent."""
        registry = case.takes_blobs()
        other = f"{case.repository}-other"
        blob = _blob(b"shared")
        await registry.put_blob(other, blob, b"shared")
        assert await registry.find_blob(case.repository, blob.digest) is None, "Rule: a repository has its own blobs."
        outcome = await registry.copy_blob(blob, other, case.repository)
        assert outcome in ("mounted", "uploaded"), "Rule: a blob is mounted, or sent where a registry does not mount."
        assert await registry.read_small_blob(case.repository, blob) == b"shared", "Rule: a mounted blob is there."

    async def test_blob_that_cannot_be_mounted_is_sent(self, case: RegistryCase) -> None:
        """Mounting may fail, in some registries always: then the content is sent."""
        registry = case.takes_blobs()
        blob = _blob(b"nowhere yet")
        outcome = await registry.put_blob(case.repository, blob, b"nowhere yet", f"{case.repository}-other")
        assert outcome == "uploaded", "Rule: what the other repository does not have is sent."

    async def test_large_blob_is_sent_and_read_in_pieces(self, case: RegistryCase) -> None:
        """Layers are larger than memory."""
        registry = case.takes_blobs()
        content = bytes(range(251)) * (_LARGE // 251)
        blob = _blob(content)
        await registry.put_blob(case.repository, blob, io.BytesIO(content))
        pieces = [piece async for piece in registry.read_blob(case.repository, blob)]
        assert b"".join(pieces) == content, "Rule: a large blob is read as it was put."
        offset = len(content) // 2
        rest = b"".join([piece async for piece in registry.read_blob(case.repository, blob, offset)])
        assert rest == content[offset:], "Rule: a blob is read from an offset on."

    async def test_wrong_content_is_refused(self, case: RegistryCase) -> None:
        """The digest is the name: other bytes under it would be another image."""
        registry = case.takes_blobs()
        blob = _blob(b"as announced")
        for content in (b"is announced", b"shorter", b"longer than announced"):
            with pytest.raises(DigestMismatch):
                await registry.put_blob(case.repository, blob, content)
            found = await registry.find_blob(case.repository, blob.digest)
            assert found is None, "Rule: content that is not what its digest says is not kept."

    async def test_error_of_a_builders_content_is_raised(self, case: RegistryCase) -> None:
        """The builder has to get its own error back, and not one of the registry's."""
        registry = case.takes_blobs()

        async def broken(offset: int) -> AsyncIterator[bytes]:
            yield b"a beginning"
            raise LookupError("of the builder")

        with pytest.raises(LookupError, match="of the builder"):
            await registry.put_blob(case.repository, _blob(b"a beginning and an end"), broken)

    async def test_missing_blob_is_reported(self, case: RegistryCase) -> None:
        """A builder can send what is missing, if it knows that it is."""
        registry = case.takes_blobs()
        blob = _blob(b"never put")
        with pytest.raises(MissingBlob) as caught:
            await registry.read_small_blob(case.repository, blob)
        assert caught.value.digest == blob.digest, "Rule: the error names the blob that is missing."
        with pytest.raises(MissingBlob):
            await registry.put_manifest(case.repository, "tag", _manifest(blob))

    async def test_assembled_image_is_found(self, case: RegistryCase) -> None:
        """An image that was put together from blobs and a manifest is one like any other."""
        registry = case.takes_blobs()
        tag = case.plan.image.rpartition(":")[2]
        assert await registry.read_manifest(case.repository, tag) is None, "Rule: a manifest not there is None."
        manifest = await _assemble(registry, case.repository, b"{}")
        described = await registry.put_manifest(case.repository, tag, manifest)
        assert described == manifest.descriptor, "Rule: put_manifest gives the descriptor of the manifest."
        for reference in (tag, described.digest):
            found = await registry.read_manifest(case.repository, reference)
            assert found == manifest, "Rule: a manifest is kept byte for byte, under its tag and its digest."
        image = await case.check(fresh=True)
        assert image is not None, "Rule: check finds an image that a builder has assembled."

    async def test_tag_moves_to_another_manifest(self, case: RegistryCase) -> None:
        """A second build of the same commit takes the place of the first."""
        registry = case.takes_blobs()
        for content in (b"{}", b'{"a": 1}'):
            manifest = await _assemble(registry, case.repository, content)
            await registry.put_manifest(case.repository, "moving", manifest)
        found = await registry.read_manifest(case.repository, "moving")
        assert found == manifest, "Rule: a manifest replaces what its tag stood for."

    async def test_tags_are_listed(self, case: RegistryCase) -> None:
        """Cleaning up begins with a list."""
        registry = case.takes_blobs()
        assert list(await registry.list_tags(case.repository)) == [], "Rule: a repository not there has no tags."
        manifest = await _assemble(registry, case.repository, b"{}")
        tags = {f"tag-{number}" for number in range(5)}
        for tag in tags:
            await registry.put_manifest(case.repository, tag, manifest)
        listed = await registry.list_tags(case.repository)
        assert sorted(listed) == sorted(tags), "Rule: list_tags gives each tag once."

    async def test_deleted_tag_takes_no_other_with_it(self, case: RegistryCase) -> None:
        """Two tags may stand for one manifest: the other one's image is still in use."""
        registry = case.takes_blobs()
        manifest = await _assemble(registry, case.repository, b"{}")
        for tag in ("first", "second"):
            await registry.put_manifest(case.repository, tag, manifest)
        deleted = await registry.delete_manifest(case.repository, "first")
        assert deleted is (True if case.deletes else None), "Rule: True if a tag was removed, None if that is refused."
        left = sorted(await registry.list_tags(case.repository))
        assert left == (["second"] if case.deletes else ["first", "second"]), "Rule: one tag of two is removed alone."
        assert await registry.read_manifest(case.repository, "second") == manifest, "Rule: the other tag is as it was."
        if case.deletes:
            again = await registry.delete_manifest(case.repository, "first")
            assert again is False, "Rule: False if a tag was not there."

    async def test_deleted_manifest_takes_its_tags_with_it(self, case: RegistryCase) -> None:
        """A tag without its manifest would be an image that cannot be pulled."""
        registry = case.takes_blobs()
        manifest = await _assemble(registry, case.repository, b"{}")
        digest = (await registry.put_manifest(case.repository, "only", manifest)).digest
        deleted = await registry.delete_manifest(case.repository, digest)
        assert deleted is (True if case.deletes else None), "Rule: True if a manifest was removed."
        left = await registry.read_manifest(case.repository, "only")
        assert left == (None if case.deletes else manifest), "Rule: no tag is left of a manifest that was removed."

    async def test_outage_is_no_missing_blob(self, case: RegistryCase) -> None:
        """As with images: an outage is a `TransientError`."""
        registry = case.takes_blobs()
        if case.down is None:
            pytest.skip("this registry has no other side")
        blob = _blob(b"during an outage")
        async with case.down():
            for call in (
                registry.find_blob(case.repository, blob.digest),
                registry.put_blob(case.repository, blob, b"during an outage"),
                registry.read_small_blob(case.repository, blob),
                registry.read_manifest(case.repository, "tag"),
                registry.put_manifest(case.repository, "tag", _manifest()),
                registry.list_tags(case.repository),
                registry.delete_manifest(case.repository, "tag"),
            ):
                with pytest.raises(TransientError) as caught:
                    await call
                for secret in case.secrets:
                    assert secret not in str(caught.value), "Rule: no secret shows in a message."
        assert await registry.find_blob(case.repository, blob.digest) is None, "Rule: an outage is not remembered."


def _blob(content: bytes, media_type: str = _LAYER) -> Descriptor:
    return Descriptor(media_type, digest_of(content), len(content))


def _manifest(*blobs: Descriptor) -> Manifest:
    config, *layers = [
        {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
        for blob in (blobs or (_blob(b"{}", _CONFIG),))
    ]
    content = {"schemaVersion": 2, "mediaType": _IMAGE, "config": config, "layers": layers}
    return Manifest(_IMAGE, json.dumps(content).encode())


async def _assemble(registry: ImageRegistry, repository: str, config: bytes) -> Manifest:
    """Puts the blobs of an image; returns its manifest."""
    layer = b"a layer of an image"
    blobs = (_blob(config, _CONFIG), _blob(layer))
    for blob, content in zip(blobs, (config, layer), strict=True):
        await registry.put_blob(repository, blob, content)
    return _manifest(*blobs)
