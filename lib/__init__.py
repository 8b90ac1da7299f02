"""The library behind *Efficient Deep Learning, Measured*.

Chapters call it, papermill executes the chapters, and each number they print comes from a stored
:class:`lib.runs.store.Result`.  Imports run one way, which ``lint-imports`` holds them to:
``cli`` → ``book`` → ``figures`` → ``claims`` → ``studies`` → methods (``elastic``, ``pruning`` …) → ``models``, ``moe``
→ ``training``, ``measure`` → ``data`` → ``runs`` → ``system``.
"""

from pathlib import Path

__version__ = "0.1.0"

#: Root of the checkout: the folder that holds ``lib/``, ``chapters/`` and ``data/``.
ROOT = Path(__file__).resolve().parent.parent
