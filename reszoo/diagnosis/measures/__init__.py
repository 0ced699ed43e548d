"""The measurements, one per module: each takes a model and a batch and returns a `Result` with its controls."""
