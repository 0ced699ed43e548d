"""Runs the command `reszoo` as `python -m reszoo`."""

from reszoo.cli import main

main()
