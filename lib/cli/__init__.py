"""What the commands of ``python -m lib`` do; :mod:`lib.__main__` holds their options and imports these lazily."""
