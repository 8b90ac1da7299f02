"""A tokenizer as BERT's is, made in a moment."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers


def word_pieces() -> Tokenizer:
    """A tokenizer as BERT's is: special tokens first, and added to every text."""
    found = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    found.normalizer, found.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = ["a film about a bear", "the bear sees a film", "who sees the bears ?"] * 5
    found.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=60, special_tokens=special, show_progress=False))
    number = found.token_to_id
    found.post_processor = processors.BertProcessing(("[SEP]", number("[SEP]")), ("[CLS]", number("[CLS]")))
    return found
