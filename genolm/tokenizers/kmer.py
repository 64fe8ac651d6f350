"""Enumerate k-mers, split sequences into overlapping k-mers, and tokenize raw DNA by them.

A tokenizers-JSON cannot cut a sequence into overlapping pieces. Its vocabulary reads k-mers that are already spelled,
`ACG CGT GTA`, as DNABERT's did; the class here spells raw DNA first. AutoTokenizer finds it by name once genolm is
imported, and falls back to the plain fast tokenizer where it is not.
"""

from itertools import product
from typing import Any

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast


def kmers(bases: str, k: int) -> list[str]:
    """Return all 4^k k-mers, in the order of the bases, the last base fastest."""
    return ["".join(letters) for letters in product(bases, repeat=k)]


def spell(sequence: str, k: int) -> str:
    """Return the overlapping k-mers of a sequence: `spell("ACGTA", 3)` is `"ACG CGT GTA"`; "" for a shorter one."""
    return " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))


class OverlappingKmerTokenizer(PreTrainedTokenizerFast):
    """A fast tokenizer over overlapping k-mers that also accepts raw DNA.

    Text with white space in it is taken for k-mers already spelled, and so is a single k-mer. Special tokens are added
    around, never parsed from raw DNA. Offsets refer to the spelled text.
    """

    @property
    def k(self) -> int:
        """Length of a k-mer in bp."""
        return self.init_kwargs["genolm"]["k"]

    def _spelled(self, text: Any) -> Any:
        if isinstance(text, (list, tuple)):
            return [self._spelled(one) for one in text]
        if not isinstance(text, str) or any(c.isspace() for c in text) or text in self.all_special_tokens:
            return text
        return spell(text, self.k)

    def _encode_plus(self, text, text_pair=None, *args, is_split_into_words: bool = False, **kwargs):
        if not is_split_into_words:
            text, text_pair = self._spelled(text), self._spelled(text_pair)
        return super()._encode_plus(text, text_pair, *args, is_split_into_words=is_split_into_words, **kwargs)


class _OverlappingKmerConfig(PreTrainedConfig):
    """AutoTokenizer registers a class together with a configuration; no model has this one."""

    model_type = "genolm-kmer-overlapping"


AutoTokenizer.register(_OverlappingKmerConfig, tokenizer_class=OverlappingKmerTokenizer, exist_ok=True)
