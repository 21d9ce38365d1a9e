"""Names of images and builds: BinderHub's vectors, what registries and Kubernetes demand, no collisions."""

import re
from hashlib import sha256

import escapism  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.launches.image_names import build_name, image_name

COMMIT = "50533eb470ee6c24e872043d30b2fee463d6943f"
SLUG = "binder-examples-requirements"
SLUGS = st.text(min_size=1, max_size=400)

# The path of a reference by the OCI distribution specification; the documented prefixes are of this kind.
OCI_PATH = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")


def test_binderhub_vectors() -> None:
    assert image_name("gcr.io/p/binder-", SLUG, COMMIT) == (
        f"gcr.io/p/binder-binder-2dexamples-2drequirements-55ab5c:{COMMIT}"
    )
    assert build_name(SLUG, COMMIT) == "build-binder-2dexamples-2drequirements-55ab5c-505-2c"


def test_slug_of_a_git_url() -> None:
    url = "https://git.example.org/Räume/a_b.git"
    digest = sha256(url.encode()).hexdigest()[:6]
    assert image_name("", url, "abc") == (f"https-3a-2f-2fgit-2eexample-2eorg-2fr-c3-a4ume-2fa-5fb-2egit-{digest}:abc")


def test_bytes_below_sixteen_have_one_digit() -> None:
    assert image_name("", "a\tb", "x").startswith("a-9b-")


def test_underscores_and_capitals_of_prefix_and_ref() -> None:
    digest = sha256(b"a").hexdigest()[:6]
    assert image_name("Host/My_Prefix-", "a", "V_1.2") == f"host/my-prefix-a-{digest}:v-1.2"


def test_long_slug_is_cut_to_255() -> None:
    name = image_name("some-id/binder-dev-", "é" * 300, COMMIT)
    path, _, tag = name.rpartition(":")
    assert (len(path), tag) == (255, COMMIT)


@pytest.mark.parametrize("slug", ["/../x", "-", "_", "ÄÖ", "a" * 300, "\udc80"])
def test_awkward_slugs_have_valid_names(slug: str) -> None:
    path, _, _ = image_name("id/binder-", slug, COMMIT).rpartition(":")
    assert OCI_PATH.fullmatch(path)


@given(SLUGS, SLUGS)
def test_build_name_is_a_dns_label(slug: str, ref: str) -> None:
    name = build_name(slug, ref)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= 63


@given(SLUGS)
def test_image_name_is_a_valid_reference(slug: str) -> None:
    path, _, tag = image_name("host.example:5000/project/binder-", slug, COMMIT).rpartition(":")
    assert OCI_PATH.fullmatch(path.removeprefix("host.example:5000/"))
    assert len(path) <= 255
    assert tag == COMMIT


@given(SLUGS, SLUGS)
def test_another_slug_has_another_name(one: str, other: str) -> None:
    assert (image_name("", one, "r") == image_name("", other, "r")) == (one == other)
    assert (build_name(one, COMMIT) == build_name(other, COMMIT)) == (one == other)


@given(SLUGS, st.text("0123456789abcdef", min_size=7, max_size=40))
def test_agrees_with_escapism(slug: str, ref: str) -> None:
    letters = {chr(c) for c in range(128) if chr(c).isalnum()}

    def shortened(text: str, limit: int, digits: int = 6) -> str:
        digest = sha256(text.encode()).hexdigest()[:digits]
        escaped: str = escapism.escape(text, safe=letters, escape_char="-")
        return f"{escaped[: limit - digits - 1]}-{digest}".lower()

    prefix = "some-id/binder-dev-"
    wanted = (prefix + shortened(slug, 255 - len(prefix)) + ":" + ref).replace("_", "-").lower()
    assert image_name(prefix, slug, ref) == wanted
    assert build_name(slug, ref) == f"build-{shortened(slug, 50)}-{shortened(ref, 6, 2)}"
