"""What the operator allows, bans and grants by spec, and the forms in which one repository is written."""

from .config.specs import SpecOptions, same_repository, shown

__all__ = ["SpecOptions", "same_repository", "shown"]
