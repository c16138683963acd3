"""`python -m scorefield`: the command line, as launchers start it."""

import sys

from scorefield.cli import main

if __name__ == "__main__":
    sys.exit(main())
