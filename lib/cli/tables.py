"""Tables on the command line: as wide as the terminal, and in a pipe as wide as they need."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

#: Wider than any row: nothing is cut off or broken where another program reads.
UNLIMITED = 1_000_000


def print_table(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=UNLIMITED)
    console.print(table)
