"""`python -m notnow` is the command line."""

from notnow.cli import main

main()
