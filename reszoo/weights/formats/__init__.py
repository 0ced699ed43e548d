"""Weights files of every kind: nothing in here raises but BrokenFileError, and nothing outside parses one."""
