"""Names of the shared program for the tests of this folder; its fixtures are known to all tests."""

from __future__ import annotations

from realparts.program import Program, Terminal

__all__ = ["Program", "Terminal"]
