"""What is for a person at a terminal, and not for a file."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console


def console(**options: Any) -> Console:
    """Of rich, for bars: it moves and colours where the output is a terminal, whatever FORCE_COLOR says.

    Notebooks set that for what their `%%bash` cells start, and rich then fills them with thousands of bars.
    """
    return Console(force_terminal=sys.stdout.isatty(), **options)
