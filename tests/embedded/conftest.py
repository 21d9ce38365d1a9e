"""The embedded mode and what is asked of its images, under the names by which the tests here use them."""

from realparts.embedded import Embedded, entry_of, in_env, place_of, request

__all__ = ["Embedded", "entry_of", "in_env", "place_of", "request"]
