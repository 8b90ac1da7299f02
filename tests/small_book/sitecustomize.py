"""With this folder on PYTHONPATH, the book that a new Python finds has one small chapter."""

from pathlib import Path

from lib import experiments

experiments.__path__.append(str(Path(__file__).parent))
experiments.CHAPTERS = (experiments.Chapter(98, "98-small", "small", "A small chapter"),)
