"""Fitting: data, runs, and the quickstart."""
