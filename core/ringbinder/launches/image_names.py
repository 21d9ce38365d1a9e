"""Names of images and builds, bit-compatible with BinderHub's, so that images that it has built are found.

Source: BinderHub's builder (protocol reference, section 5.1).
"""

from __future__ import annotations

import string
from hashlib import sha256

_SAFE = frozenset(string.ascii_letters + string.digits)
_LONGEST_IMAGE = 255
_HASH = 6

# A DNS label has 63 characters; what is not this belongs to the slug.
_BUILD_SLUG = 63 - len("build--") - 6
_BUILD_REF = 6
_BUILD_REF_HASH = 2


def image_name(prefix: str, slug: str, ref: str) -> str:
    """Full name with its tag of the image of `slug` at `ref`: ``<prefix><slug>-<hash>:<ref>``, lower case.

    >>> image_name("gcr.io/project/r2d-", "binder-examples-requirements", "3e3c1b5")
    'gcr.io/project/r2d-binder-2dexamples-2drequirements-55ab5c:3e3c1b5'
    """
    safe = _shortened(slug, _LONGEST_IMAGE - len(prefix), _HASH)
    return f"{prefix}{safe}:{ref}".replace("_", "-").lower()


def build_name(slug: str, ref: str) -> str:
    """Name of the build of `slug` at `ref`: a DNS label, so at most 63 characters.

    >>> build_name("binder-examples-requirements", "3e3c1b5")
    'build-binder-2dexamples-2drequirements-55ab5c-3e3-f2'
    """
    return f"build-{_shortened(slug, _BUILD_SLUG, _HASH)}-{_shortened(ref, _BUILD_REF, _BUILD_REF_HASH)}"


def _shortened(text: str, limit: int, hash_length: int) -> str:
    """`text` escaped and cut to `limit` characters, which end in a hash of the whole."""
    digest = sha256(_bytes(text)).hexdigest()[:hash_length]
    return f"{_escaped(text)[: max(0, limit - hash_length - 1)]}-{digest}".lower()


def _escaped(text: str) -> str:
    """Each byte of a character other than a-z, A-Z, 0-9 becomes ``-`` and its hex digits, not padded."""
    return "".join(c if c in _SAFE else "".join(f"-{byte:X}" for byte in _bytes(c)) for c in text)


def _bytes(text: str) -> bytes:
    # The name of a folder may hold what is no Unicode.
    return text.encode(errors="surrogatepass")
