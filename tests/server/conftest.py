"""Names of the shared server for the tests of this folder; its fixtures are known to all tests."""

from __future__ import annotations

from realparts.serving import Gate, Live, Serve, Stream

__all__ = ["Gate", "Live", "Serve", "Stream"]
