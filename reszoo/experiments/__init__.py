"""Networks trained beside each other: comparisons, the evidence, the quickstart."""
