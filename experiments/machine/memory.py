"""How much memory this machine has."""

from __future__ import annotations

import os


def memory() -> int:
    """Bytes, used and free."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
