"""The commands in groups: their options and help, without the work that they do."""
