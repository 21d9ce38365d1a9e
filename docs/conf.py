"""How Sphinx makes the site of these pages: `make docs`."""

from importlib.metadata import version as installed

project = "Ringbinder"
author = "The Ringbinder developers"
copyright = "the Ringbinder developers"
version = release = installed("ringbinder")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "furo"
html_title = "Ringbinder"
html_copy_source = False
