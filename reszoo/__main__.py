"""`python -m reszoo` is the command `reszoo`."""

from reszoo.cli import main

main()
