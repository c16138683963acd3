"""Sphinx: a page for each floor of the library, and its functions from their docstrings."""

from importlib.metadata import version

project = "scorefield"
author = "The scorefield authors"
copyright = author  # noqa: A001
release = version("scorefield")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "amsmath"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "scorefield"
html_copy_source = False

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
