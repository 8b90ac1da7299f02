"""The language chapter's runs for other chapters: a GPT that learns to tell stories, and what counting words achieves on its windows."""

from lib.studies.language.gpt import LanguageGPT, bigram_loss, windows_of

__all__ = ["LanguageGPT", "bigram_loss", "windows_of"]
