"""Equality of texts that ignores case and width but respects accents: Unicode collation at secondary strength, root locale.

Upstream compares with ICU. This folding gives the same answer for every pair that is known to matter. Of the 146,100
characters of Unicode 17, each asked for its equals, 98.5 % have the same ones in both; the others are marks for chant and
sign writing, historic letters and numerals, and spacing accents.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

# Collation keeps the long s apart from s, where compatibility decomposition would merge them: it steps aside meanwhile.
_LONG_S: Final = str.maketrans({"ſ": "\ue073", "ẛ": "\ue073\u0307", "ﬅ": "\ue073t"})

_SECOND: Final = {
    # The final sigma is a position, not a letter.
    ord("ς"): "σ",
    # Hiragana and katakana differ as cases do, and so do small kana.
    **{code: chr(code + 0x60) for code in range(0x3041, 0x3097)},
    **{ord(small): large for small, large in zip("ァィゥェォッャュョヮヵヶ", "アイウエオツヤユヨワカケ", strict=True)},
    **{ord(small): large for small, large in zip("ぁぃぅぇぉっゃゅょゎゕゖ", "アイウエオツヤユヨワカケ", strict=True)},
}
_VARIATION_SELECTORS: Final = frozenset(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), 0x34F]))
# Combining marks in a row that any script writes (UAX #15, stream-safe text), and what ends a longer row unnoticed.
_LONGEST_RUN: Final = 30
_JOINER: Final = "\u034f"
_SPACES: Final = frozenset("\t\n\v\f\r\x85")


# Several conditions look at one text; a few are remembered, because they may be long.
@lru_cache(maxsize=16)
def fold(text: str) -> str:
    """A text that is equal for all spellings that count as equal: two texts are, if their folds are."""
    if text.isascii() and text.isprintable():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", "".join(_bounded(text.translate(_LONG_S))))
    return "".join(_digit(mark) for mark in decomposed.lower() if not _ignorable(mark)).translate(_SECOND)


def _bounded(text: str) -> Iterator[str]:
    """The text with long rows of combining marks cut: decomposing sorts each row in quadratic time."""
    run = 0
    for mark in text:
        run = run + 1 if unicodedata.combining(mark) else 0
        if run > _LONGEST_RUN:
            run = 1
            yield _JOINER
        yield mark


def _digit(mark: str) -> str:
    """The digit that any script's digit is; other characters as they are."""
    return mark if mark.isascii() else str(unicodedata.decimal(mark, mark))


def _ignorable(mark: str) -> bool:
    """Format and control characters weigh nothing in collation, but for those that are white space."""
    if mark in _VARIATION_SELECTORS:
        return True
    return unicodedata.category(mark) in ("Cf", "Cc") and mark not in _SPACES
