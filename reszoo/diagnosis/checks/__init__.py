"""Checks of a program: each module yields the causes that can be read from the model, its settings and the data."""
