"""`python -m gans`: the `gans` command."""

import sys

from gans.commands.main import entry

if __name__ == "__main__":
    sys.exit(entry())
