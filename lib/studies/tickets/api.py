"""The tickets chapter's runs for other chapters: the pre-trained encoder, its tasks and how it is fine-tuned."""

from lib.studies.tickets.finetune import FinetuneRun, TaskSize
from lib.studies.tickets.pretrain import PretrainRun, masked_batches
from lib.studies.tickets.sizes import HOME_MADE
from lib.studies.tickets.text import Source, material
from lib.studies.tickets.words import BagOfWordsRun

__all__ = ["HOME_MADE", "BagOfWordsRun", "FinetuneRun", "PretrainRun", "Source", "TaskSize", "masked_batches", "material"]
