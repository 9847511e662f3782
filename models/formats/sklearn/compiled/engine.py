"""Scores texts by the compiled pass; what it does not do exactly, row by row, scikit-learn does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scorebeat.models.formats.sklearn.compiled.layout import EMPTY
from scorebeat.models.formats.sklearn.compiled.machine_code import MachineCode, machine_code
from scorebeat.models.formats.sklearn.compiled.plan import CompiledPlan, TextBlock
from scorebeat.models.formats.sklearn.compiled.vocabulary import slots_for
from scorebeat.models.formats.sklearn.inputs import Feed

Call = Callable[[str, pa.RecordBatch], Any]
"""Calls a method of a model for rows, and returns what the model returns."""
_Scored = tuple[NDArray[np.float64], NDArray[np.bool_]]
_TIE = 1e-9
"""Scores so near may be in another order after other rounding; with weights above 1, so many times as near."""


class CompiledTexts:
    """A linear model of texts, as a `Call`."""

    def __init__(self, plan: CompiledPlan, feed: Feed, native: Call, cache: Path) -> None:
        """`feed` makes a DataFrame of columns, and `native` is scikit-learn itself; `cache` keeps machine code."""
        code = machine_code(cache)
        self._plan, self._feed, self._native = plan, feed, native
        self._of_others = {name for other in plan.others for name in other.inputs}
        weights = [np.abs(each.weights[:, 1:] * each.weights[:, :1]).max(initial=0.0) for each in plan.texts]
        self._tie = _TIE * max(1.0, *weights)
        self._blocks = [_Block(each, code) for each in plan.texts]
        self._last: tuple[pa.RecordBatch, str, _Scored] | None = None

    def __call__(self, method: str, rows: pa.RecordBatch) -> Any:
        try:
            scores, unscored = self._scored(method, rows)
        except Exception:  # noqa: BLE001 -- scikit-learn decides about these rows, and raises its own error
            return self._native(method, rows)
        if method == "predict" and hasattr(self._plan.end, "classes_"):
            unscored = unscored | self._ties(scores)
        if unscored.all():
            return self._native(method, rows)
        found = getattr(self._plan.end, method)(scores)
        if unscored.any():
            found[unscored] = self._native(method, rows.take(pa.array(np.flatnonzero(unscored))))
        return found

    def _scored(self, method: str, rows: pa.RecordBatch) -> _Scored:
        """[rows, scores], and which rows have none. A second method of the same rows gets those of the first."""
        last, self._last = self._last, None
        if last is not None and last[0] is rows and last[1] != method:
            return last[2]
        scores, unscored = np.zeros((rows.num_rows, self._plan.scores)), np.zeros(rows.num_rows, np.bool_)
        for block in self._blocks:
            block.add_scores(rows, scores, unscored)
        if self._plan.others:
            frame = self._feed(rows.select([name for name in rows.schema.names if name in self._of_others]))
            for other in self._plan.others:
                scores += other.transformer.transform(frame[other.columns]) @ other.weights
        unscored |= ~np.isfinite(scores).all(axis=1)
        scores[unscored] = 0.0
        self._last = rows, method, (scores, unscored)
        return scores, unscored

    def _ties(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Rows whose two best classes are so near that rounding decides."""
        end = self._plan.end
        decided = end.decision_function(scores) if hasattr(end, "decision_function") else end.predict_proba(scores)
        if decided.ndim == 1:
            return np.asarray(np.abs(decided) <= self._tie)
        best = np.sort(decided, axis=1)[:, -2:]
        return np.asarray(best[:, 1] - best[:, 0] <= self._tie * np.maximum(1.0, np.abs(best[:, 1])))


class _Block:
    """The tables of one text block."""

    def __init__(self, block: TextBlock, code: MachineCode) -> None:
        known = block.vocabulary
        words = np.full((slots_for(len(known.numbers)), 2), EMPTY, np.int64)
        grams = np.full((slots_for(len(known.grams)), 2), EMPTY, np.int64)
        code.fill_words(words, known.numbers, known.starts, known.letters)
        sketch = np.zeros(max(1, len(grams) // 2), np.uint8)
        code.fill_grams(grams, sketch, known.grams)
        self._column, self._run = block.column, code.add_scores
        self._tables = (
            block.characters.kinds, block.characters.lower, block.characters.least, block.characters.is_bounded,
            *block.grams, words, known.starts, known.letters, known.first_stop_word, grams, sketch,
            block.is_hashed, block.is_signed, block.is_binary, block.first_norm, block.is_sublinear, block.last_norm,
            block.weights,
        )  # fmt: skip

    def add_scores(self, rows: pa.RecordBatch, scores: NDArray[np.float64], unscored: NDArray[np.bool_]) -> None:
        """Add each text's scores; sets `unscored` for NULL, and for a text that the pass leaves to scikit-learn."""
        texts = rows.column(self._column)
        if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
            raise TypeError(f"{texts.type} has no buffers that the pass reads")
        if texts.null_count:
            unscored |= texts.is_null().to_numpy(zero_copy_only=False)
        _, offsets, data = texts.buffers()
        width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
        ends = np.frombuffer(offsets, width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
        letters = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
        self._run(letters, ends, *self._tables, scores, unscored)
