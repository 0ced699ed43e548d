"""Readers and writers of weights files. Invalid files raise BrokenFileError only; no other package parses them."""
