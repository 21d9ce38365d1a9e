"""What the operator allows, bans and grants by spec, and the forms in which one repository is written.

Core applies these lists to every provider. A provider that has to look at them itself, since what it resolves has more
names than its spec, inherits its `Config` from `SpecOptions`.
"""

from .config.specs import SpecForms, SpecOptions, same_repository, shown

__all__ = ["SpecForms", "SpecOptions", "same_repository", "shown"]
