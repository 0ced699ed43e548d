"""Fitting: data sources, recipes, runs that survive, and the quickstart."""
