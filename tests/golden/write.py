"""Writes the golden plans anew: read the difference before you commit it."""

from pathlib import Path

import reszoo

for file in Path(__file__).parent.glob("*.txt"):
    file.write_text(reszoo.plan(file.stem).text())
