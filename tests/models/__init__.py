"""Real models that must go through unchanged, as data."""
