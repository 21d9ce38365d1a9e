"""The builder `layers`: from a repository to an image in the registry, with real uv and the tests' own packages."""

from __future__ import annotations

import asyncio
import errno
import gzip
import io
import os
import random
import zipfile
from pathlib import Path

import pytest
import zstandard
from attrs import evolve
from realparts.package_index import PackageIndex
from ringbinder.errors import BuildError, ConfigError, TransientError, UserError
from ringbinder.model import Declined, Failure
from ringbinder.plugins.context import Context
from ringbinder.testing import make_context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_layers import assembly
from ringbinder_layers.builder import LayersBuilder
from ringbinder_layers.options import LayersBuilderOptions

from .building import Site
from .conftest import registry_context
from .smallbase import OCI, PREFIX, config, publish

LIBRARY = f"{PREFIX}/lib/python3.12/site-packages"
START = '#!/bin/sh\nexec "$@"\n'


async def test_image_has_packages_content_and_variables(site: Site, tmp_path: Path) -> None:
    files = {"requirements.txt": "gamma==1.0\n", "a.txt": "text", "start": START, ".git/HEAD": "ref"}
    image = await site.build(site.plan(tmp_path / "r", files))
    found = image.files
    assert found[f"{LIBRARY}/gamma/__init__.py"] == b"__version__ = '1.0'\n"
    assert f"{LIBRARY}/ipykernel/__init__.py" in found
    assert found["/home/jovyan/a.txt"] == b"text"
    assert found["/home/jovyan/.git/HEAD"] == b"ref"
    assert image.entries["/home/jovyan/start"].mode == 0o755
    assert image.env["R2D_ENTRYPOINT"] == "/home/jovyan/start"
    assert image.entries[f"{PREFIX}/bin/python"].linkname == "/opt/python/3.12/bin/python3.12"


async def test_labels_name_what_it_was_made_from(site: Site, tmp_path: Path) -> None:
    plan = site.plan(tmp_path / "r", {"a.txt": "text"})
    labels = (await site.build(plan)).config["config"]["Labels"]
    assert labels["repo2docker.repo"] == plan.repo.url
    assert labels["repo2docker.ref"] == plan.repo.ref
    assert labels["org.ringbinder.builder"] == "layers"
    assert labels["org.ringbinder.base.format"] == "1"


async def test_log_says_what_is_known_and_made(site: Site, tmp_path: Path) -> None:
    await site.build(site.plan(tmp_path / "r", {"requirements.txt": "gamma\n"}))
    lines = site.log.lines
    assert ("building", "Building from requirements.txt\n") in lines
    # ipykernel, traitlets, pip, gamma, ipywidgets, nbconvert, nbformat, and the environment
    assert ("building", "0 of 8 layers are known\n") in lines
    assert ("building", "Making a layer of gamma 1.0\n") in lines
    assert any(phase == "pushing" and text.startswith("Pushed: ") for phase, text in lines)
    assert set(site.log.layers[-1].values()) == {"Mounted", "Pushed"}


async def test_files_kept_with_lfs_are_a_line_of_the_log(site: Site, tmp_path: Path) -> None:
    await site.build(site.plan(tmp_path / "r", {".gitattributes": "*.bin filter=lfs\n"}))
    assert any(phase == "fetching" and "Git LFS" in text for phase, text in site.log.lines)


async def test_package_that_is_gone_has_its_lock_made_again(
    site: Site, context: Context, server: OciServer, index: PackageIndex, tmp_path: Path
) -> None:
    await site.build(site.plan(tmp_path / "r", {"requirements.txt": "gamma\n"}))
    index.files["gamma"].clear()
    index.add("gamma", "1.1")
    base = f"{server.host}/base:1"
    async with Site.open(context, f"{site.prefix}other-", base_image=base, compression="zstd") as other:
        pinned = other.plan(tmp_path / "pinned", {"requirements.txt": "gamma==1.0\n"})
        image = await other.build(other.plan(tmp_path / "s", {"requirements.txt": "gamma\n"}))
        with pytest.raises(BuildError, match="gamma"):
            await other.build(pinned)
    assert image.files[f"{LIBRARY}/gamma/__init__.py"] == b"__version__ = '1.1'\n"


async def test_known_layers_are_neither_made_nor_downloaded(site: Site, index: PackageIndex, tmp_path: Path) -> None:
    first = await site.build(site.plan(tmp_path / "r", {"requirements.txt": "gamma\n", "a.txt": "one"}))
    downloads = [path for path, _ in index.requests if path.endswith(".whl")]
    second = await site.build(site.plan(tmp_path / "r", {"requirements.txt": "gamma\n", "a.txt": "two"}))
    assert [path for path, _ in index.requests if path.endswith(".whl")] == downloads
    assert first.digests[:-1] == second.digests[:-1]
    assert first.digests[-1] != second.digests[-1]
    assert "8 of 8 layers are known" in site.log.text


async def test_text_commit_pushes_content_and_history_alone(site: Site, server: OciServer, tmp_path: Path) -> None:
    files = {"requirements.txt": "gamma\n", "a.txt": "one", ".git/HEAD": "1"}
    first = await site.build(site.plan(tmp_path / "r", files))
    server.seen.clear()
    second = await site.build(site.plan(tmp_path / "r", files | {"a.txt": "two", ".git/HEAD": "2"}))
    assert len(set(second.digests) - set(first.digests)) == 2
    sent = [seen for seen in server.seen if seen.method == "PUT" and "/blobs/uploads/" in seen.path]
    assert len(sent) == 3  # and the configuration


async def test_other_repository_with_one_more_package(site: Site, server: OciServer, tmp_path: Path) -> None:
    first = await site.build(site.plan(tmp_path / "a", {"requirements.txt": "gamma\n"}, "a"))
    second = await site.build(site.plan(tmp_path / "b", {"requirements.txt": "gamma\ndelta\n"}, "b"))
    assert len(set(second.digests) - set(first.digests)) == 2  # delta, and the content
    assert "Making a layer of delta 1.0" in site.log.text


async def test_one_commit_gives_one_image_everywhere(
    site: Site, server: OciServer, tmp_path: Path, index: PackageIndex
) -> None:
    """Two processes, two registries, two folders, two umasks: but for the history there is no difference."""
    files: dict[str, str | bytes] = {"requirements.txt": "gamma\n", "start": START, "sub/a.txt": "text"}
    first = await site.build(site.plan(tmp_path / "first", files))
    async with OciServer.running() as other, registry_context(tmp_path / "other", other) as context:
        await publish(context.registry, f"{other.host}/base", "1")
        before = os.umask(0o077)
        try:
            plan = site.plan(tmp_path / "another" / "folder", files)
        finally:
            os.umask(before)
        async with Site.open(context, f"{other.host}/binder-", base_image=f"{other.host}/base:1") as elsewhere:
            # The repository's address and the base's name are in labels and annotations.
            repo = evolve(plan.repo, url=(tmp_path / "first").as_uri())
            second = await elsewhere.build(evolve(plan, repo=repo, image=f"{other.host}/binder-r:{repo.ref}"))
    assert second.digests == first.digests
    assert second.manifest["config"] == first.manifest["config"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_compression_is_as_configured(
    context: Context, server: OciServer, index: PackageIndex, tmp_path: Path, compression: str
) -> None:
    await publish(context.registry, f"{server.host}/base", "1")
    options = {"base_image": f"{server.host}/base:1", "compression": compression}
    async with Site.open(context, f"{server.host}/binder-", **options) as site:
        image = await site.build(site.plan(tmp_path / "r", {"requirements.txt": "gamma\n"}))
    kinds = {layer["mediaType"].rpartition("+")[2] for layer in image.manifest["layers"][1:]}
    assert kinds == {compression}


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
async def test_compression_by_itself_is_the_bases(
    context: Context, server: OciServer, index: PackageIndex, tmp_path: Path, kind: str
) -> None:
    described, layer = config()
    content = layer if kind == "gzip" else zstandard.compress(gzip.decompress(layer))
    await publish(
        context.registry, f"{server.host}/base", "1", (described, content), layer_type=f"{OCI}.layer.v1.tar+{kind}"
    )
    async with Site.open(context, f"{server.host}/binder-", base_image=f"{server.host}/base:1") as site:
        image = await site.build(site.plan(tmp_path / "r", {}))
    assert {layer["mediaType"].rpartition("+")[2] for layer in image.manifest["layers"]} == {kind}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"Dockerfile": "FROM x\n"}, "Dockerfile"),
        ({"binder/postBuild": "#!/bin/sh\n"}, "binder/postBuild"),
        ({"apt.txt": "gcc\n"}, "apt.txt"),
        ({"Project.toml": ""}, "Project.toml"),
        ({"default.nix": ""}, "default.nix"),
        ({"runtime.txt": "r-4.1-2024-01-01"}, "runtime.txt, which asks for R"),
        ({"setup.py": "raise SystemExit\n"}, "the package in the root"),
        ({"requirements.txt": "-e .\n"}, "-e ."),
        ({"requirements.txt": "onlysource\n"}, "onlysource, which has no wheel"),
    ],
)
async def test_what_needs_code_is_declined(
    site: Site, index: PackageIndex, server: OciServer, tmp_path: Path, files: dict[str, str | bytes], reason: str
) -> None:
    answer = await site.answer(site.plan(tmp_path / "r", files))
    assert isinstance(answer, Declined)
    assert answer.reason.startswith(reason)
    assert not server.tags("binder-r")
    assert not site.left


async def test_missing_base_is_the_operators_error(
    context: Context, server: OciServer, index: PackageIndex, tmp_path: Path
) -> None:
    async with Site.open(context, f"{server.host}/binder-", base_image=f"{server.host}/none:1") as site:
        with pytest.raises(ConfigError, match=r"LayersBuilder\.base_image"):
            await site.answer(site.plan(tmp_path / "r", {}))
        assert not site.left
        # What is for another builder needs no base.
        assert isinstance(await site.answer(site.plan(tmp_path / "d", {"Dockerfile": "FROM x\n"}, "d")), Declined)


async def test_base_of_another_registry_is_copied_once(
    context: Context, server: OciServer, index: PackageIndex, tmp_path: Path
) -> None:
    async with OciServer.running() as other, registry_context(tmp_path / "other", other) as theirs:
        await publish(theirs.registry, f"{other.host}/base", "1")
        async with Site.open(context, f"{server.host}/binder-", base_image=f"{other.host}/base:1") as site:
            first = await site.build(site.plan(tmp_path / "a", {}, "a"))
            read = len(other.asked("GET", "/blobs/"))
            await site.build(site.plan(tmp_path / "b", {}, "b"))
        assert len(other.asked("GET", "/blobs/")) == read
    assert first.manifest["annotations"]["org.opencontainers.image.base.name"] == f"{other.host}/base:1"


async def test_builds_at_once_make_each_layer_once(site: Site, index: PackageIndex, tmp_path: Path) -> None:
    plans = [site.plan(tmp_path / name, {"requirements.txt": "gamma\n", "a": name}, name) for name in "abc"]
    images = await asyncio.gather(*map(site.build, plans))
    assert len({tuple(image.digests[:-1]) for image in images}) == 1
    assert site.log.text.count("Making a layer of gamma") == 1


async def test_replicas_at_once_agree(site: Site, server: OciServer, tmp_path: Path) -> None:
    async with (
        registry_context(tmp_path / "other", server) as context,
        Site.open(context, site.prefix, base_image=f"{server.host}/base:1") as other,
    ):
        plans = [
            each.plan(tmp_path / name, {"requirements.txt": "gamma\n"}, name)
            for each, name in ((site, "a"), (other, "b"))
        ]
        first, second = await asyncio.gather(site.build(plans[0]), other.build(plans[1]))
    assert first.digests == second.digests


async def test_build_past_its_time_is_ended(
    context: Context, server: OciServer, index: PackageIndex, tmp_path: Path
) -> None:
    await publish(context.registry, f"{server.host}/base", "1")
    index.stalls.add("gamma-1.0-py3-none-any.whl")
    options = {"base_image": f"{server.host}/base:1", "build_timeout": 2.0}
    async with Site.open(context, f"{server.host}/binder-", **options) as site:
        with pytest.raises(BuildError, match="longer than 2 seconds") as caught:
            await site.answer(site.plan(tmp_path / "r", {"requirements.txt": "gamma\n"}))
        assert caught.value.code == "build-limit"
        await site.until_nothing_is_left()
    assert not server.tags("binder-r")


async def test_build_that_is_too_large_is_ended(
    context: Context, server: OciServer, index: PackageIndex, tmp_path: Path
) -> None:
    await publish(context.registry, f"{server.host}/base", "1")
    options = {"base_image": f"{server.host}/base:1", "build_disk_limit": 1_000_000}
    async with Site.open(context, f"{server.host}/binder-", **options) as site:
        with pytest.raises(BuildError, match="more than 1000000") as caught:
            await site.answer(site.plan(tmp_path / "r", {"large": b"x" * 1_500_000}))
        assert caught.value.code == "build-limit"


async def test_packages_without_sizes_are_counted_as_they_come(
    context: Context, server: OciServer, index: PackageIndex, tmp_path: Path
) -> None:
    """A lock file of a repository may leave them out: each package has less than the limit, all have more."""
    await publish(context.registry, f"{server.host}/base", "1")
    for name in ("gamma", "delta"):
        file = index.files[name][f"{name}-1.0-py3-none-any.whl"]
        content = io.BytesIO(file.content)
        with zipfile.ZipFile(content, "a") as archive:
            archive.writestr(f"{name}/data", random.Random(name).randbytes(600_000))
        index.add_file(name, file.name, content.getvalue(), file.metadata, "")
    lines = [f"{name} @ {index.root}/files/{name}/{name}-1.0-py3-none-any.whl\n" for name in ("gamma", "delta")]
    options = {"base_image": f"{server.host}/base:1", "build_disk_limit": 1_000_000}
    async with Site.open(context, f"{server.host}/binder-", **options) as site:
        with pytest.raises(BuildError, match="more than 1000000"):
            await site.answer(site.plan(tmp_path / "r", {"requirements.txt": "".join(lines)}))


async def test_cancelled_build_leaves_whole_layers_alone(
    site: Site, index: PackageIndex, server: OciServer, tmp_path: Path
) -> None:
    index.stalls.add("delta-1.0-py3-none-any.whl")
    plan = site.plan(tmp_path / "r", {"requirements.txt": "gamma\ndelta\n"})
    build = asyncio.ensure_future(site.answer(plan))
    await site.log.until("Making a layer of delta")
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await site.until_nothing_is_left()
    assert not server.tags("binder-r")
    index.stalls.clear()
    index.stalled.set()
    assert f"{LIBRARY}/delta/__init__.py" in (await site.build(plan)).files


async def test_index_that_lies_about_a_hash_is_refused(
    site: Site, index: PackageIndex, server: OciServer, tmp_path: Path
) -> None:
    index.files["gamma"]["gamma-1.0-py3-none-any.whl"].digest = "0" * 64
    with pytest.raises(BuildError) as caught:
        await site.answer(site.plan(tmp_path / "r", {"requirements.txt": "gamma\n"}))
    assert caught.value.code == "hash-mismatch"
    assert not server.tags("binder-r")


async def test_registry_that_goes_away_is_transient(site: Site, server: OciServer, tmp_path: Path) -> None:
    await site.build(site.plan(tmp_path / "r", {"a.txt": "one"}))
    async with server.down():
        with pytest.raises(TransientError):
            await site.answer(site.plan(tmp_path / "r", {"a.txt": "two"}))
    assert not site.left
    await site.build(site.plan(tmp_path / "r", {"a.txt": "two"}))


async def test_full_disk_is_named(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(assembly, "write_content", full)
    with pytest.raises(UserError) as caught:
        await site.answer(site.plan(tmp_path / "r", {"a.txt": "text"}))
    assert caught.value.code == "disk-full"
    assert not site.left


async def test_name_that_fits_no_image_is_the_users(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fits into no image") as caught:
        await site.answer(site.plan(tmp_path / "r", {".wh.a": ""}))
    assert caught.value.code == "unsupported-content"


async def test_failing_requirement_is_explained(site: Site, tmp_path: Path) -> None:
    plan = site.plan(tmp_path / "r", {"requirements.txt": "no-such-package-4711\n"})
    with pytest.raises(BuildError) as caught:
        await site.answer(plan)
    failure = Failure("build", caught.value, tuple(site.log.text.splitlines()), plan)
    diagnosis = await site.builder.diagnose(failure)
    assert diagnosis is not None
    assert diagnosis.code == "package-not-found"


async def test_registry_without_blobs_is_refused_at_start(tmp_path: Path) -> None:
    context = make_context(tmp_path, "layers")
    with pytest.raises(ConfigError, match=r"Ringbinder\.registry: .* does not take"):
        async with Site.open(context, "host.example/x-"):
            pass
    [finding] = await LayersBuilder(LayersBuilderOptions(), context).doctor()
    assert finding.level == "error"
    await context.services.close()


async def test_doctor_describes_base_and_compression(site: Site) -> None:
    findings = await site.builder.doctor()
    assert [finding.level for finding in findings] == ["ok", "ok"]
    assert "Python 3.12, 3.11, glibc 2.36" in findings[0].message
    assert "gzip, as the base image is" in findings[1].message


async def test_doctor_names_a_base_that_is_missing(site: Site, server: OciServer) -> None:
    server.remove("base", "1")
    [finding] = await site.builder.doctor()
    assert finding.level == "error"
    assert "images/base" in finding.fix
