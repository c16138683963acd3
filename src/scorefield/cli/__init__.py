"""The command line: a file for each family of commands, each a thin layer over the library's functions.

Importing this package imports neither torch nor anything else that is slow: a command imports what it needs when it
runs, so that `--help` and misspelt options are answered at once.
"""

from scorefield.cli.main import main

__all__ = ["main"]
