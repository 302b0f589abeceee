"""What tasks make of items, and their losses against sums written out by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmlm.data.packing import pack
from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain, Record, build_domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.finetuning.classification import Classification, PairClassification
from seqmlm.finetuning.pooling import pooled_states
from seqmlm.finetuning.question_answering import QuestionAnswering
from seqmlm.finetuning.ranking import Ranking
from seqmlm.finetuning.records import LabelledRecord
from seqmlm.finetuning.regression import Regression
from seqmlm.finetuning.task import TASKS, Example, LeftOutError, Task, predict
from seqmlm.finetuning.token_labels import TokenClassification
from seqmlm.finetuning.workload import encode_part
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row


def record(number: int = 1, **fields: Any) -> LabelledRecord:
    return LabelledRecord(fields, f"file, line {number}", number)


def with_head(task: Task[Any, Any]) -> Model:
    torch.manual_seed(0)
    vocabulary = task.domain.vocabulary
    config = EncoderConfig(
        vocabulary_size=len(vocabulary),
        mask_token=vocabulary.special.mask,
        layers=1, hidden_size=16, heads=2, segments=2,
    )  # fmt: skip
    heads = {task.name: task.head_config(dropout=0.0)}
    model = Model(task.domain, config, heads=heads)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def encode(task: Task[Any, Any], *records: LabelledRecord, max_length: int = 64) -> list[Example]:  # type: ignore[type-arg]
    report = ReadReport()
    return [task.encode(one, max_length=max_length, report=report) for one in records]


def mean_loss(task: Task[Any, Any], model: Model, examples: list[Any]) -> float:
    return predict(model, task, examples, tokens_per_batch=10_000)[1]


@pytest.fixture
def intents(characters: Domain) -> Classification:
    task = Classification(characters)
    task.learn([record(text="ab", label=label) for label in ("b", "a", "b")])
    return task


def test_labels_are_sorted_and_survive_saving(intents: Classification, characters: Domain) -> None:
    restored = Classification(characters)
    restored.restore(intents.state())
    assert restored.labels == intents.labels == ["a", "b"]
    assert restored.state() == {"labels": {"a": 1, "b": 2}}


def test_the_loss_of_labels_is_minus_their_mean_log_probability(intents: Classification) -> None:
    model = with_head(intents)
    examples = encode(intents, record(text="ab", label="a"), record(text="fgh x", label="b"))
    answers, loss = predict(model, intents, examples, tokens_per_batch=1000)
    expected = -np.log([answers[0].probabilities["a"], answers[1].probabilities["b"]]).mean()
    assert loss == pytest.approx(expected, rel=1e-5)
    assert sum(answers[0].probabilities.values()) == pytest.approx(1)


def test_answers_do_not_depend_on_what_is_in_the_batch(intents: Classification) -> None:
    model = with_head(intents)
    texts = ["ab", "fgh x", "a", "cd ef gh ab", "xyz"]
    examples = encode(intents, *(record(text=text, label="a") for text in texts))
    together, _ = predict(model, intents, examples, tokens_per_batch=1000)
    alone, _ = predict(model, intents, examples, tokens_per_batch=1)
    for one, other in zip(together, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooled_states_are_those_of_the_row(characters: Domain, pooling: Any) -> None:
    encodings = [characters.parse(text) for text in ("ab", "cdefg", "h")]
    batch = pack([Row.of(encoding) for encoding in encodings])
    hidden = torch.randn(batch.num_tokens, 4)
    found = pooled_states(hidden, batch, pooling=pooling, special=characters.vocabulary.special)
    ends = batch.cu_seqlens.tolist()
    for row, (start, end) in enumerate(pairwise(ends)):
        expected = hidden[start] if pooling == "cls" else hidden[start + 1 : end - 1].mean(dim=0)
        torch.testing.assert_close(found[row], expected)


def test_an_empty_batch_has_a_loss_that_trains_nothing(intents: Classification) -> None:
    """A rank may get no row of a small batch, and must take part all the same."""
    model = with_head(intents)
    batch = pack([])
    loss = intents.loss(model, torch.zeros(0, 16), batch)
    assert loss.total.item() == loss.count.item() == 0
    loss.total.backward()  # type: ignore[no-untyped-call]


def test_long_texts_are_cut_and_counted(intents: Classification) -> None:
    report = ReadReport(read=1)
    example = intents.encode(record(text="a" * 50, label="a"), max_length=10, report=report)
    assert len(example.rows[0].ids) == 10
    assert example.rows[0].ids[-1] == intents.domain.vocabulary.special.end
    assert report.truncated == 1


def test_items_that_cannot_be_encoded_are_counted(intents: Classification) -> None:
    records = [record(1, text=" ", label="a"), record(2, text="ab", label="a")]
    part = encode_part(intents, records, max_length=16, labelled=True)
    assert [position for position, _ in part.examples] == [1]
    assert part.report.dropped == {"empty text": 1}
    assert part.report.used == 1


def test_items_without_a_label_are_predicted_but_not_judged(intents: Classification) -> None:
    records = [record(1, text="ab", label=""), record(2, text="ab", label="a")]
    part = encode_part(intents, records, max_length=16, labelled=True)
    examples, answers = part.judged(["first", "second"])
    assert [example.record.number for example in examples] == [2]
    assert answers == ["second"]
    assert part.report.notes == {"without a label: not judged": 1}


def test_python_refuses_an_empty_text(intents: Classification) -> None:
    with pytest.raises(LeftOutError, match="input: empty text"):
        encode(intents, intents.record_of(""))


@pytest.mark.parametrize(
    ("label", "says"),
    [("bb", "no label 'bb'. Did you mean 'b'?"), (" ", "the label (label) is empty")],
)
def test_labels_that_training_lacks_are_refused(
    intents: Classification, label: str, says: str
) -> None:
    with pytest.raises(DataError) as caught:
        encode(intents, record(7, text="ab", label=label))
    assert says in str(caught.value)
    assert "line 7" in str(caught.value)


def test_one_class_is_nothing_to_learn(characters: Domain) -> None:
    with pytest.raises(DataError, match="all labels are 'a'"):
        Classification(characters).learn([record(text="ab", label="a")])


def test_a_pair_has_two_segments(characters: Domain) -> None:
    task = PairClassification(characters)
    task.learn([record(label="a"), record(label="b")])
    (example,) = encode(task, record(first="ab", second="c", label="a"))
    assert example.rows[0].segment_ids.tolist() == [0, 0, 0, 0, 1, 1]


def test_the_loss_of_values_is_their_mean_squared_standardised_error(characters: Domain) -> None:
    task = Regression(characters)
    task.learn([record(value="1"), record(value="5")])  # mean 3, deviation 2
    model = with_head(task)
    examples = encode(task, record(text="ab", value=1), record(text="cde", value="7"))
    answers, loss = predict(model, task, examples, tokens_per_batch=1000)
    expected = np.mean([((answers[0] - 1) / 2) ** 2, ((answers[1] - 7) / 2) ** 2])
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("value", ["nan", "inf", "much", True, ""])
def test_values_that_are_no_numbers_are_refused(characters: Domain, value: Any) -> None:
    with pytest.raises(DataError, match="line 3"):
        Regression(characters).learn([record(3, value=value)])


def test_equal_values_are_nothing_to_learn(characters: Domain) -> None:
    with pytest.raises(DataError, match="every value is 2"):
        Regression(characters).learn([record(value="2"), record(value="2.0")])


@pytest.fixture
def names(characters: Domain) -> TokenClassification:
    task = TokenClassification(characters)
    task.learn([record(text=["ab", "cd"], labels=["B-x", "O"])])
    return task


def test_a_slip_among_labels_of_entities_is_refused_with_its_place(characters: Domain) -> None:
    sentences = [record(text="a b", labels="B-x I-x") for _ in range(20)]
    with pytest.raises(DataError, match=r"word 2: 'x' among labels of entities.*'I-x'"):
        TokenClassification(characters).learn([*sentences, record(text="a b", labels="B-x x")])


def test_labels_of_another_scheme_are_judged_word_by_word_and_this_is_said(
    characters: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    task = TokenClassification(characters)
    task.learn([record(text="a b c", labels="B-x E-x O")])
    assert task.labels == ["B-x", "E-x", "O"]
    assert "'E-x' are none of BIO" in caplog.text


def test_an_entity_that_begins_with_an_i_is_read_and_counted(names: TokenClassification) -> None:
    """It was taken without a word, as in ``I-x O`` at the start of a sentence."""
    report = ReadReport()
    fields = [("a b c", "I-x O B-x"), ("a b", "B-x I-x"), ("a b c", "I-x O I-x")]
    for text, labels in fields:
        names.encode(record(text=text, labels=labels), max_length=50, report=report)
    assert report.notes == {"entity that begins with I- instead of B-": 3}


def test_a_word_is_judged_at_its_first_token(names: TokenClassification) -> None:
    (example,) = encode(names, record(text=["abc", "de"], labels=["O", "I-x"]))
    targets = example.rows[0].targets["tokens"]
    ids = example.rows[0].ids
    tokens = names.domain.vocabulary.tokens
    assert [tokens[ids[position]] for position in targets.positions] == ["a", "d"]
    assert [names.labels[label] for label in targets.labels] == ["O", "I-x"]


@pytest.mark.parametrize("tokenizer", ["bpe", "wordpiece", "unigram", "character"])
def test_every_tokenizer_has_a_first_token_for_every_word(tokenizer: str) -> None:
    domain = build_domain({"name": "text", "tokenizer": tokenizer, "vocabulary_size": 300})
    text = "the cat isn't on the mat , the dog is @home"
    domain.fit_tokenizer([Record("a", f"{text} {text}", "test", 1)])
    task = TokenClassification(domain)
    task.learn([record(text="a b", labels="O B-x")])
    words = text.split()
    (example,) = encode(task, record(text=words, labels=["O"] * len(words)))
    offsets = domain.parse(text).offsets
    assert offsets is not None
    assert example.words[0].tolist() == list(range(len(words)))  # type: ignore[attr-defined]
    firsts = offsets[example.rows[0].targets["tokens"].positions, 1]
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    assert (firsts > starts).all()
    assert (firsts <= starts + [len(word) for word in words]).all()


def test_gold_labels_come_back_through_long_windows(names: TokenClassification) -> None:
    """Every word is judged in exactly one window, with its own label."""
    words = ["ab", "cde", "f", "gh"] * 12
    labels = ["B-x", "I-x", "O", "O"] * 12
    (example,) = encode(names, record(text=words, labels=labels), max_length=20)
    assert len(example.rows) > 3
    scores = []
    for row in example.rows:
        one_hot = np.full((len(row.targets["tokens"].labels), 3), -9, np.float32)
        one_hot[np.arange(len(one_hot)), row.targets["tokens"].labels] = 9
        scores.append(one_hot)
    answer = names.answer(example, scores)
    assert list(answer.labels) == labels
    found = names.measures([example], [answer])(np.array([0]))
    assert found == {"f1": 1, "precision": 1, "recall": 1}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"text": ["a", "b"], "labels": ["O"]}, "1 labels for 2 words"),
        ({"text": "ab", "labels": "O B-y"}, "2 labels for 1 words"),
        ({"text": ["a"], "labels": ["B-y"]}, "word 1: the training data have no label 'B-y'"),
        ({"text": "a b", "labels": "OO"}, "need --set task.unit=character"),
    ],
)
def test_faulty_labels_of_words_are_explained(
    names: TokenClassification, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        encode(names, record(**fields))
    assert says in str(caught.value)


def question(context: str, answer: str | None, start: int = -1, **more: Any) -> LabelledRecord:
    answers = [] if answer is None else [{"text": answer, "answer_start": start}]
    fields = {"id": "q", "question": "x?", "context": context, "answers": answers}
    return record(**(fields | more))


def test_the_answer_is_marked_where_it_stands(characters: Domain) -> None:
    task = QuestionAnswering(characters)
    (example,) = encode(task, question("abc def", "de", 4))
    row = example.rows[0]
    start, end = row.targets["qa"].positions
    tokens = characters.vocabulary.tokens
    assert [tokens[token] for token in row.ids[start : end + 1]] == ["d", "e"]
    assert row.targets["qa"].labels.tolist() == [0, 1]
    assert (row.segment_ids[start : end + 1] == 1).all()


def test_windows_without_the_answer_point_at_the_first_token(characters: Domain) -> None:
    task = QuestionAnswering(characters, stride=5)
    context = "abcdefgh" * 4
    (example,) = encode(task, question(context, "gh", 30), max_length=15)
    marked = [row.targets["qa"].positions.tolist() for row in example.rows]
    assert len(marked) > 3
    assert marked[0] == [0, 0]
    assert marked[-1] != [0, 0]
    text = [task.answer(example, _pointing(example)).text]
    assert text == ["gh"]


def _pointing(example: Any) -> list[Any]:
    """Scores that say what the targets say."""
    scores = []
    for row in example.rows:
        one = np.full((len(row.ids), 2), -20, np.float32)
        one[row.targets["qa"].positions, [0, 1]] = -0.1
        scores.append(one)
    return scores


def test_gold_answers_come_back_as_exact_matches(characters: Domain) -> None:
    task = QuestionAnswering(characters, stride=4)
    contexts = ["abc def", "ab " * 20 + "xyz" + " cd" * 9, "x"]
    spans = [(4, "def"), (60, "xyz"), (0, "x")]
    records = [
        question(context, text, start)
        for context, (start, text) in zip(contexts, spans, strict=True)
    ]
    examples = encode(task, *records, max_length=24)
    answers = [task.answer(example, _pointing(example)) for example in examples]
    found = task.measures(examples, answers)(np.arange(3))
    assert found == {"exact_match": 1, "f1": 1}
    assert [answer.start for answer in answers] == [4, 60, 0]


@pytest.mark.parametrize("start", [-1, 3, 99])
def test_an_answer_that_is_not_at_its_offset_is_counted_and_not_trained_on(
    characters: Domain, start: int
) -> None:
    report = ReadReport(read=1)
    task = QuestionAnswering(characters)
    example = task.encode(question("abc def", "de", start), max_length=64, report=report)
    assert not example.can_train
    assert example.truth is not None
    assert report.notes == {"answer not found at its offset: not trained on": 1}


def test_no_answer_is_given_only_if_training_had_such_questions(characters: Domain) -> None:
    task = QuestionAnswering(characters)
    (example,) = encode(task, question("abc", None))
    scores = [np.log(np.full((len(example.rows[0].ids), 2), 0.01, np.float32))]
    scores[0][0] = np.log(0.9)
    task.learn([question("a", "a", 0)])
    assert task.answer(example, scores).text
    task.learn([question("a", "a", 0), question("a", None)])
    assert task.answer(example, scores).text == ""
    assert task.bars([example]) == {"f1 without any answer": 1}


def test_start_and_end_are_predicted_over_the_context_alone(characters: Domain) -> None:
    task = QuestionAnswering(characters)
    model = with_head(task)
    (example,) = encode(task, question("abc def", "de", 4))
    batch = pack(example.rows)
    with torch.no_grad():
        found = task.logits(model, model(batch), batch).exp()
    segment = example.rows[0].segment_ids
    context = (segment == 1) & (example.rows[0].ids != characters.vocabulary.special.end)
    context[0] = True
    assert (found[torch.from_numpy(~context)] == 0).all()
    torch.testing.assert_close(found.sum(dim=0), torch.ones(2))


def test_a_question_that_fills_the_row_is_refused(characters: Domain) -> None:
    task = QuestionAnswering(characters)
    with pytest.raises(ConfigError, match="leaves no room for a context"):
        encode(task, question("abc", "a", 0, question="abcdefgh"), max_length=11)


def ranked(query: str, *candidates: tuple[str, object]) -> LabelledRecord:
    lines = [
        record(number, query=query, candidate=text, relevance=relevance)
        for number, (text, relevance) in enumerate(candidates, start=1)
    ]
    return record(query=query, candidates=lines)


def test_the_loss_of_a_ranking_is_the_cross_entropy_with_its_relevances(
    characters: Domain,
) -> None:
    task = Ranking(characters)
    model = with_head(task)
    examples = encode(
        task,
        ranked("a", ("b", 1), ("cd", 0), ("efg", 3)),
        LabelledRecord(ranked("b", ("b", 0), ("cd", 1)).fields, "file, line 9", 2),
    )
    answers, loss = predict(model, task, examples, tokens_per_batch=1000)
    expected = 0.0
    for answer, shares in zip(answers, ([0.25, 0, 0.75], [0, 1]), strict=True):
        log_softmax = torch.tensor(answer.scores, dtype=torch.float64).log_softmax(0)
        expected -= float(torch.tensor(shares, dtype=torch.float64) @ log_softmax) / 2
    assert loss == pytest.approx(expected, rel=1e-4)


def test_a_query_without_a_relevant_candidate_is_left_out(characters: Domain) -> None:
    part = encode_part(Ranking(characters), [ranked("a", ("b", 0))], max_length=32, labelled=True)
    assert part.examples == []
    assert part.report.dropped == {"no candidate of the query is relevant": 1}


@pytest.mark.parametrize("relevance", ["-1", "nan", "very"])
def test_faulty_relevances_are_refused(characters: Domain, relevance: str) -> None:
    with pytest.raises(DataError, match="a number of 0 or more is needed"):
        encode(Ranking(characters), ranked("a", ("b", relevance)))


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_is_rebuilt_from_its_options(name: str, characters: Domain) -> None:
    task = TASKS.build({"name": name}, characters, where="task")
    again = TASKS.build({"name": name, **task.options}, characters, where="task")
    assert again.options == task.options
    assert task.name == name


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("qa", {"metric": "bleu"}, "task.metric = 'bleu'"),
        ("qa", {"max_answer_tokens": 0}, "task.max_answer_tokens = 0"),
        ("tokens", {"unit": "letter"}, "task.unit = 'letter'"),
        ("classification", {"pooling": "max"}, "task.pooling = 'max'"),
        ("classification", {"label_colum": "x"}, "Did you mean 'label_column'?"),
    ],
)
def test_faulty_options_are_explained(
    name: str, options: dict[str, Any], says: str, characters: Domain
) -> None:
    with pytest.raises(ConfigError) as caught:
        TASKS.build({"name": name, **options}, characters, where="task")
    assert says in str(caught.value)


def test_words_without_offsets_cannot_be_labelled(words: Domain) -> None:
    task = TokenClassification(words)
    task.learn([record(text="a b", labels="O B-x")])
    with pytest.raises(ConfigError, match="does not say where its tokens stand"):
        encode(task, record(text="a b", labels="O O"))


def test_tables_of_words_and_conll_files_give_the_same_items(
    names: TokenClassification, tmp_path: Path
) -> None:
    conll, table = tmp_path / "a.conll", tmp_path / "a.csv"
    conll.write_text("ab\tB-x\ncd\tO\n")
    table.write_text("text,labels\nab cd,B-x O\n")
    first, second = (encode(names, *names.read(path, labelled=True))[0] for path in (conll, table))
    assert first.truth == second.truth
    assert first.rows[0].ids.tolist() == second.rows[0].ids.tolist()
