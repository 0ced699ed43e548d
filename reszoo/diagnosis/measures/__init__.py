"""The measurements, one a module: each takes a model and a batch, and returns a `Result` beside its control."""
