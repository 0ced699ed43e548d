"""Searching depth, width and recipe under a budget."""
