"""The attention chapter's measurements for other chapters."""

from lib.studies.attention.contenders import TYPES
from lib.studies.attention.cost import timed_call

__all__ = ["TYPES", "timed_call"]
