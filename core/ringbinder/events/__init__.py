"""How events reach their sinks."""
