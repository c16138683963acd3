"""Sphinx: a page for each floor of the library, and its functions from their docstrings."""

import re
from importlib import metadata

from sphinx.application import Sphinx

project = "scorefield"
author = "The scorefield authors"
copyright = author  # noqa: A001
release = version = metadata.version("scorefield")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 2
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "scorefield"
html_copy_source = False

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True


def plain(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:  # noqa: ARG001
    """Docstrings say |x| and (batch, *data), which are markup to Sphinx."""
    doctest = False
    for i, line in enumerate(lines):
        doctest = line.lstrip().startswith(">>>") or (doctest and bool(line.strip()))
        if not doctest:
            lines[i] = re.sub(r"(?<![\\*`])(\||\*(?=data|shape))", r"\\\1", line)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", plain, priority=400)
