"""With this folder on PYTHONPATH, the book that a new Python finds has one small chapter."""

from pathlib import Path

from lib import studies

studies.__path__.append(str(Path(__file__).parent))
studies.CHAPTERS = (studies.Chapter(98, "98-small", "small", "A small chapter"),)
