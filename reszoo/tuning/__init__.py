"""Search for depth, width and recipe of a network under a budget."""
