"""The teachers chapter's runs for other chapters: networks with exits."""

from lib.studies.teachers.exits import all_logits, thinned

__all__ = ["all_logits", "thinned"]
