"""Examples from folders, tables, arrays, streams and named sets, read correctly or refused."""
