"""Launchers that run images elsewhere than on this machine alone."""
