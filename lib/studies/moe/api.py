"""The mixtures chapter's runs for other chapters: vision transformers with and without experts."""

from lib.studies.moe.vit import ViTRun, routing_tables

__all__ = ["ViTRun", "routing_tables"]
