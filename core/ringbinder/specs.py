"""What the operator allows, bans and grants by spec, and the forms in which one repository is written.

Core applies these lists to every provider, and these limits to the git that it lends it. A provider that has to look at
them itself, since what it resolves has more names than its spec, inherits its `Config` from `RepoOptions`.
"""

from .config.specs import RepoOptions, SpecForms, same_repository, shown

__all__ = ["RepoOptions", "SpecForms", "same_repository", "shown"]
