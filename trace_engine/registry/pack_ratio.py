"""The pack ratio 包装比例 of a product: how many of its smallest packs one case of it holds."""

from __future__ import annotations

import math
import re

MOST_PACKS = 1_000_000  # in a case; a text that says more is about something else

# 1:5:10, as the coding platform writes it: case, carton, pack.
_RATIO = re.compile(r"(?<![\d.:：])1((?:[:：]\d{1,7}){1,3})(?![\d.:：])")
# 24片/盒, 400盒/箱: how many of one thing are in one of another.
_STEP = re.compile(
    r"(\d{1,7})\s*([^\d\s/／×xX*＊✕·;；,，()（）]{1,4})\s*[/／]\s*([^\d\s/／×xX*＊✕·;；,，()（）]{1,4})"
)
_CASES = {"箱", "件", "大箱", "外箱", "整箱", "整件"}
_DOSES = {"片", "粒", "丸", "枚", "贴", "喷", "揿", "吸", "g", "mg", "ml", "克", "毫升"}


def packs_in_case(pack_spec: str | None) -> int:
    """Return how many smallest packs a case holds at most, or -1 where ``pack_spec`` does not say.

    ``24片/盒×400盒/箱`` is 400, ``7片×2板/盒×10盒/中盒×20中盒/箱`` 200, ``1:400`` 400. Of a ratio with
    levels between (``1:5:10``) some write how many are in the case and some how many in the level
    above: the larger reading counts (50). A text that ends with the carton (中盒) says nothing of
    cases.
    """
    text = pack_spec or ""
    ratio = _RATIO.search(text)
    if ratio:
        packs = math.prod(int(part) for part in re.findall(r"\d+", ratio.group(1)))
        return packs if 0 < packs <= MOST_PACKS else -1
    steps = [(int(count), what, where) for count, what, where in _STEP.findall(text)]
    outer = next((place for place, (*_, where) in enumerate(steps) if where in _CASES), None)
    if outer is None:
        return -1
    packs, what = steps[outer][:2]
    if what.lower() in _DOSES:
        return -1
    # Down to the smallest pack: that is what the first step fills, with tablets or ampoules.
    for count, inner, where in reversed(steps[1:outer]):
        if where == what:
            packs, what = packs * count, inner
    return packs if 0 < packs <= MOST_PACKS else -1
