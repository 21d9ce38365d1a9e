"""What a repository asks for: which of its files decides, and what they name. Builders share it."""
