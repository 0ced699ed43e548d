"""Data sources: image folders, tables, arrays, streams and named data sets, read and checked."""
