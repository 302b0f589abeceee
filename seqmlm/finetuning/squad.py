"""Questions with a context, in the JSON of SQuAD and CMRC 2018."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seqmlm.data.text_source import open_text
from seqmlm.errors import DataError
from seqmlm.finetuning.records import LabelledRecord, refuse_repeats


def read_squad(path: str | Path) -> list[LabelledRecord]:
    """Read all questions of a file, plain or gzip.

    Fields: ``id``, ``question``, ``context``, ``answers`` (list of ``text`` and
    ``answer_start``; empty for a question without an answer; absent if nobody gave any), and
    ``article``: what belongs together and is never divided by a split.

    Raises:
        DataError: the file cannot be read or is built otherwise, or two questions share an id.
    """
    with open_text(path) as file:
        text = "".join(file)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from error
    questions = [
        LabelledRecord(fields, f"{path}, question {fields['id']!r}", number)
        for number, fields in enumerate(_questions(content, path), start=1)
    ]
    if not questions:
        raise DataError(f"{path} holds no question.")
    refuse_repeats(questions, "id")
    return questions


def _questions(content: Any, path: str | Path) -> Iterator[dict[str, Any]]:
    for index, article in enumerate(_list(content, "data", str(path))):
        where = f"{path}, data[{index}]"
        title = article.get("title") if isinstance(article, Mapping) else None
        for position, paragraph in enumerate(_list(article, "paragraphs", where)):
            here = f"{where}.paragraphs[{position}]"
            context = _value(paragraph, "context", here)
            for number, question in enumerate(_list(paragraph, "qas", here)):
                place = f"{here}.qas[{number}]"
                fields = {
                    "id": _value(question, "id", place),
                    "question": _value(question, "question", place),
                    "context": context,
                    "article": str(title or f"article {index}"),
                }
                yield fields | _answers(question, place)


def _answers(question: Mapping[str, Any], place: str) -> dict[str, Any]:
    if question.get("is_impossible"):
        return {"answers": []}
    if "answers" not in question:
        return {}
    answers = _list(question, "answers", place)
    for answer in answers:
        _value(answer, "text", f"{place}.answers")
        if not isinstance(answer.get("answer_start"), int):
            raise DataError(f"{place}.answers: answer_start is missing or not a whole number.")
    return {"answers": [{key: a[key] for key in ("text", "answer_start")} for a in answers]}


def _list(node: Any, key: str, where: str) -> list[Any]:
    value = node.get(key) if isinstance(node, Mapping) else None
    if not isinstance(value, list):
        raise DataError(f"{where}: no list {key!r}. The file must be in the format of SQuAD.")
    return value


def _value(node: Any, key: str, where: str) -> str:
    value = node.get(key) if isinstance(node, Mapping) else None
    if not isinstance(value, str | int):
        raise DataError(f"{where}: {key!r} is missing. The file must be in the format of SQuAD.")
    return str(value)
