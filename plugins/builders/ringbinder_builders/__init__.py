"""Builders that make container images with repo2docker."""
