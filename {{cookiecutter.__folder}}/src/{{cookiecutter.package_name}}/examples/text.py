"""Text classification: which chapter of Python's own reference a paragraph is from."""

import re
from collections import Counter
from pydoc_data.topics import topics  # a megabyte of English that comes with Python
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

PADDING, UNKNOWN = 0, 1
WORD = re.compile(r"[a-z_]+")
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
        self.chapters = largest
        for chapter, name in enumerate(largest):
            for paragraph in topics[name].split("\n\n"):
                found = WORD.findall(paragraph.lower())
                if len(found) >= 5:
                    self.rows.append((found, chapter))

    def split(self, name: str) -> Paragraphs:
        """Give every tenth paragraph to `val`, the next to `test`, and the others to `train`."""
        places = {"val": (0,), "test": (1,), "train": range(2, 10)}
        parts = {
            part: [row for number, row in enumerate(self.rows) if number % 10 in where]
            for part, where in places.items()
        }
        frequent = self._frequent(parts["train"])
        return Paragraphs(parts[name], {word: number for number, word in enumerate(frequent, 2)})

    def _frequent(self, rows: list[tuple[list[str], int]]) -> list[str]:
        counts = Counter(word for words, _ in rows for word in words)
        return [word for word, _ in counts.most_common(self.words - 2)]

    def signature(self) -> dict[str, Any]:
        """Give what a served model needs to make numbers of a text, and the chapters."""
        train = [row for number, row in enumerate(self.rows) if number % 10 not in (0, 1)]
        words = {word: number for number, word in enumerate(self._frequent(train), 2)}
        text = {"tokens": "tokens", "mask": "mask", "pattern": WORD.pattern, "lower": True}
        text |= {"words": words, "unknown": UNKNOWN, "padding": PADDING}
        return {"text": text, "classes": self.chapters}

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
