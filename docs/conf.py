"""How Sphinx makes the site of these pages: `make docs`."""

from importlib.metadata import version as installed

project = "Ringbinder"
author = "The Ringbinder developers"
copyright = "the Ringbinder developers"
version = release = installed("ringbinder")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "furo"
html_title = "Ringbinder"
html_copy_source = False

# Docstrings are plain text with code in single backticks; the types of others have no pages to link to.
default_role = "code"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
nitpick_ignore_regex = [("py:.*", ".*")]
