"""How a plugin is found, judged, made and called."""
