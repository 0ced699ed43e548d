"""Foreign weights: read from files without their library, matched to the plan, placed or refused as a whole."""
