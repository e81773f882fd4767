"""Text classification: which chapter of Python's own reference a paragraph is from."""

import re
from collections import Counter
from pydoc_data.topics import topics  # a megabyte of English that comes with Python

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

PADDING, UNKNOWN = 0, 1
Item = tuple[Tensor, int]


class Paragraphs(Dataset[Item]):
    """Paragraphs as the numbers of their words, int64 (words,), and their chapters."""

    def __init__(self, rows: list[tuple[list[str], int]], vocabulary: dict[str, int]) -> None:
        self.rows = [
            (torch.tensor([vocabulary.get(word, UNKNOWN) for word in words]), chapter)
            for words, chapter in rows
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        return self.rows[index]


class PythonReference:
    """The largest chapters of what `help()` shows; two of ten paragraphs are kept to validate and to test.

    Args:
        classes: how many chapters.
        words: size of the vocabulary, the most frequent words of the training split.
    """

    def __init__(self, classes: int, words: int) -> None:
        self.words = words
        self.rows: list[tuple[list[str], int]] = []
        largest = sorted(topics, key=lambda name: len(topics[name]), reverse=True)[:classes]
        for chapter, name in enumerate(largest):
            for paragraph in topics[name].split("\n\n"):
                found = re.findall(r"[a-z_]+", paragraph.lower())
                if len(found) >= 5:
                    self.rows.append((found, chapter))

    def split(self, name: str) -> Paragraphs:
        """Give every tenth paragraph to `val`, the next to `test`, and the others to `train`."""
        places = {"val": (0,), "test": (1,), "train": range(2, 10)}
        parts = {
            part: [row for number, row in enumerate(self.rows) if number % 10 in where]
            for part, where in places.items()
        }
        counts = Counter(word for words, _ in parts["train"] for word in words)
        frequent = [word for word, _ in counts.most_common(self.words - 2)]
        return Paragraphs(parts[name], {word: number for number, word in enumerate(frequent, 2)})

    def collate(self, items: list[Item]) -> tuple[dict[str, Tensor], Tensor]:
        """Fill paragraphs up to the longest of a batch: `tokens` int64 (B, L), `mask` bool (B, L)."""
        tokens = [words for words, _ in items]
        padded = pad_sequence(tokens, batch_first=True, padding_value=PADDING)
        chapters = torch.tensor([chapter for _, chapter in items])
        return {"tokens": padded, "mask": padded != PADDING}, chapters


class BagOfWords(nn.Module):
    """The mean of a paragraph's word vectors, and a linear layer.

    Args:
        words: size of the vocabulary.
        width: length of a word's vector.
        outputs: classes.
    """

    def __init__(self, words: int, width: int, outputs: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(words, width, padding_idx=PADDING)
        self.head = nn.Linear(width, outputs)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, L), (B, L) -> (B, outputs)."""
        counts = mask.sum(dim=1, keepdim=True)
        return self.head(self.vectors(tokens).sum(dim=1) / counts)
