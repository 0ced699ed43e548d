"""Pictures and pages of plain data."""
