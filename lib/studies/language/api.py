"""The language chapter's runs for other chapters: a GPT that learns to tell stories, and what counting words achieves on its windows."""

from lib.studies.language.gpt import LanguageGPT, bigram_loss, windows_of
from lib.studies.language.gpt_sizes import GPTS, reading

__all__ = ["GPTS", "LanguageGPT", "bigram_loss", "reading", "windows_of"]
