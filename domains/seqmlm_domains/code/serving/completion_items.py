"""Completions as editors show them."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, Final

from lsprotocol import types

from seqmlm_domains.code.completion.completion import ONLY, Completion, CompletionResult
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.serving.documents import Place

_REMEMBERED_ANSWERS: Final = 16

_KINDS: Final = {
    Role.FUNCTION: types.CompletionItemKind.Function,
    Role.CALL: types.CompletionItemKind.Function,
    Role.CLASS: types.CompletionItemKind.Class,
    Role.TYPE: types.CompletionItemKind.Class,
    Role.IMPORT: types.CompletionItemKind.Module,
    Role.ATTRIBUTE: types.CompletionItemKind.Field,
    Role.KEYWORD: types.CompletionItemKind.Property,
}
"""Of the signs that editors show; anything else is a variable."""


class AnswerMemory:
    """The last answers to a client, so that details of an item wait until it is looked at."""

    def __init__(self) -> None:
        self._answers: OrderedDict[int, tuple[Completion, ...]] = OrderedDict()
        self._next = 0

    def add(self, completions: tuple[Completion, ...]) -> int:
        """Keep an answer, forget the oldest of too many, and return its number."""
        number = self._next
        self._next += 1
        self._answers[number] = completions
        if len(self._answers) > _REMEMBERED_ANSWERS:
            self._answers.popitem(last=False)
        return number

    def find(self, data: Any) -> Completion | None:
        """Return what ``data`` of an item stands for; None if it is forgotten, or not ours."""
        match data:
            case {"answer": int(answer), "rank": int(rank)} if rank >= 0:
                completions = self._answers.get(answer, ())
                return completions[rank] if rank < len(completions) else None
        return None


def completion_list(
    result: CompletionResult, place: Place, *, memory: AnswerMemory, client_chooses_edit: bool
) -> types.CompletionList:
    """Return the first answer: names and what they replace, in the order of the model.

    It is incomplete: with another character of the name known, the model answers better.

    Args:
        result: of the completer.
        place: that was asked for.
        memory: keeps the details.
        client_chooses_edit: whether the client lets its user choose between replacing a word that
            goes on behind the cursor and leaving its rest; else it is replaced.
    """
    answer = memory.add(result.completions)
    return types.CompletionList(
        is_incomplete=bool(result.completions),  # nothing stays nothing, as within a comment
        items=[
            types.CompletionItem(
                label=completion.text,
                kind=_kind(completion),
                # Editors sort by this text, whatever the order of the list.
                sort_text=f"{rank:04}",
                filter_text=completion.text,
                preselect=True if rank == 0 else None,
                text_edit=_edit(completion, place, client_chooses=client_chooses_edit),
                data={"answer": answer, "rank": rank},
            )
            for rank, completion in enumerate(result.completions)
        ],
    )


def _edit(
    completion: Completion, place: Place, *, client_chooses: bool
) -> types.TextEdit | types.InsertReplaceEdit:
    """The model takes the whole word for what is being typed, so that its rest would be doubled."""
    typed, rest = completion.end - completion.start, completion.word_end - completion.end
    word = place.range_around(before=typed, behind=rest)
    if not rest or not client_chooses:
        return types.TextEdit(range=word, new_text=completion.text)
    return types.InsertReplaceEdit(
        new_text=completion.text, insert=place.range_around(before=typed), replace=word
    )


def _kind(completion: Completion) -> types.CompletionItemKind:
    if completion.role is None:
        return types.CompletionItemKind.Variable
    return _KINDS.get(completion.role, types.CompletionItemKind.Variable)


def with_details(item: types.CompletionItem, completion: Completion) -> types.CompletionItem:
    """Return an item with type and probability, and what each part of the mixture adds, in nats."""
    probability = f"{math.exp(completion.score):.1%}"
    parts = sorted(completion.parts.items(), key=lambda part: -part[1])
    told = [f"{name} {score:+.2f} nats" for name, score in parts]
    return types.CompletionItem(
        label=item.label,
        kind=item.kind,
        sort_text=item.sort_text,
        filter_text=item.filter_text,
        preselect=item.preselect,
        text_edit=item.text_edit,
        data=item.data,
        detail=", ".join(filter(None, [completion.type, probability, completion.source])),
        documentation="The only candidate" if completion.source == ONLY else "\n".join(told),
    )


def inline_completion_list(
    result: CompletionResult, place: Place, *, probability: float
) -> types.InlineCompletionList:
    """Return the best name if the model gives it more than a probability, else nothing.

    A guess that is shown without being asked for must be right more often than not: neither a
    lexical one nor a name that is typed out already is shown.
    """
    if not result.completions or not result.used_model:
        return types.InlineCompletionList(items=[])
    best = result.completions[0]
    word = place.source[best.start : best.word_end]
    if best.text == word or math.exp(best.score) <= probability:
        return types.InlineCompletionList(items=[])
    item = types.InlineCompletionItem(
        insert_text=best.text,
        filter_text=best.text,
        range=place.range_around(before=best.end - best.start, behind=best.word_end - best.end),
    )
    return types.InlineCompletionList(items=[item])
