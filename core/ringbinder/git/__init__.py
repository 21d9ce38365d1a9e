"""Git for providers: what a ref means, a repository into a folder, and addresses judged by the operator's rules.

A provider whose `resolve` gives a `GitSource` needs no `fetch`: Ringbinder fetches, with all history, branches, tags
and submodules, without what Git LFS keeps elsewhere. `Context.git` is a `Git` of the provider's own: its `resolve`
finds out which commit a branch or tag is.

- Its limits are the operator's, `Git.options`: those of section `RepoProvider` (`fetch_timeout`, `trusted_hosts` and so
  on), each of which may stand in the provider's own section instead.
- Credentials come from `Repo.credentials`, from the address of a link, or, for a host that the operator has configured,
  from `Git.add_host` and `git_credentials`. They are in no argument, address or log, and go to no other host, also not
  for a submodule.
- An address is a stranger's: http, https, git and ssh alone (`PROTOCOLS`), never ``file:``. Where others can reach
  the server, http and https alone, at public addresses or hosts that the operator has named. git is bound to the
  address that was judged, and follows no redirect.
- git uses no configuration, hooks, keys or filters, neither the account's nor a repository's.

`FULL_SHA` matches a whole commit id. `Ask` is the type of what `Git.local` gives.
"""

from .addresses import FULL_SHA, PROTOCOLS, Address, credentials, decoded, parse_address, ref_name
from .client import Git
from .command import Access
from .guard import Guard
from .local import Ask
from .mirror import LocalRepository
from .mirror import find as find_repository
from .remote import ResolvedRef

__all__ = [
    "FULL_SHA",
    "PROTOCOLS",
    "Access",
    "Address",
    "Ask",
    "Git",
    "Guard",
    "LocalRepository",
    "ResolvedRef",
    "credentials",
    "decoded",
    "find_repository",
    "parse_address",
    "ref_name",
]
