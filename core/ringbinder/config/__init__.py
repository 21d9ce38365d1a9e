"""From files to typed options."""
