"""`python -m refgc`: the same as the command `refgc`."""

from refgc.cli.main import main

main()
