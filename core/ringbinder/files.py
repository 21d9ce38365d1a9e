"""A plugin's own files and folders: private, replaced whole, locked between processes, removed also after a kill.

For folders that strangers can write see `ringbinder.untrusted`. All functions but `temporary_folder` block: call them
in a thread (`asyncio.to_thread`) where the disk may be slow.
"""

from .runtime.filelock import file_locked, lock_file, locked
from .runtime.private import make_private
from .runtime.statefile import read_state, sync_state, write_state
from .runtime.tempfolder import remove_abandoned, temporary_folder

__all__ = [
    "file_locked",
    "lock_file",
    "locked",
    "make_private",
    "read_state",
    "remove_abandoned",
    "sync_state",
    "temporary_folder",
    "write_state",
]
