"""The growth chapter's yardstick for other chapters."""

from lib.studies.growth.needs import TOKENS_PER_PARAMETER

__all__ = ["TOKENS_PER_PARAMETER"]
