"""`python -m gans`: the `gans` command."""

import sys

from gans.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
