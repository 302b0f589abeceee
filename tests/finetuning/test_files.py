"""Labelled files, good and bad: what is read, and what the message says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from seqmlm.errors import ConfigError, DataError
from seqmlm.finetuning.conll import read_conll
from seqmlm.finetuning.records import read_table, write_rows
from seqmlm.finetuning.squad import read_squad

COLUMNS = {"text_column": "text", "label_column": "label"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"one, two",x\nthree,y\n'),
        ("a.tsv", "text\tlabel\none, two\tx\nthree\ty\n"),
        ("a.jsonl", '{"text": "one, two", "label": "x"}\n\n{"text": "three", "label": "y"}\n'),
    ],
)
def test_tables_of_every_kind_say_the_same(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    records = read_table(path, COLUMNS)
    assert [dict(record.fields) for record in records] == [
        {"text": "one, two", "label": "x"},
        {"text": "three", "label": "y"},
    ]
    assert records[1].place.startswith(str(path))


def test_quotes_in_tsv_are_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\nhe said "no\tx\nyes\ty\n')
    assert [record.text("text") for record in read_table(path, COLUMNS)] == ['he said "no', "yes"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "text,labels\na,x\n", "no column 'label'. Did you mean 'labels'?"),
        ("a.csv", "text,label\na,x\nb\n", "line 3: 1 fields, but the header has 2"),
        ("a.csv", "text,text\na,b\n", "columns of the same name"),
        ("a.csv", 'text,label\na,x\n"a,x\nb,y\n', "line 3: a quote that opens in this row"),
        ("a.csv", "text;label\na;x\n", "separated by semicolons. Separate them by commas"),
        ("a.csv", "text,label\n", "holds no record"),
        ("a.csv", "", "holds no record"),
        ("a.txt", "text,label\n", "told by the ending"),
        ("a.jsonl", '{"text": "a"\n', "line 1: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: a JSON object is needed"),
    ],
)
def test_faulty_tables_are_explained(name: str, content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_table(path, COLUMNS)
    assert says in str(caught.value)


def test_a_table_that_is_not_utf_8_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\ncaf\xe9,x\n")
    with pytest.raises(DataError, match="not UTF-8 at byte offset 14"):
        read_table(path, COLUMNS)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_what_is_written_reads_back(name: str, tmp_path: Path) -> None:
    rows = [{"text": 'a, "b"\nc', "n": 1}, {"text": "ü", "n": 2}]
    write_rows(tmp_path / name, rows)
    back = [dict(record.fields) for record in read_table(tmp_path / name, {"text_column": "text"})]
    assert [(row["text"], int(row["n"])) for row in back] == [('a, "b"\nc', 1), ("ü", 2)]


def test_predictions_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.csv or \.jsonl"):
        write_rows(tmp_path / "a.xlsx", [{"a": 1}])


def test_conll_sentences_end_at_lines_without_words(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART-\tO\n\nNew\tB-loc\nYork\tI-loc\n\t\nhi\tO\n")
    records = read_conll(path, text="words", labels="labels")
    assert [record.fields["words"] for record in records] == [["New", "York"], ["hi"]]
    assert records[0].fields["labels"] == ["B-loc", "I-loc"]
    assert records[1].place == f"{path}, line 6"


def test_the_first_and_the_last_of_four_conll_columns_count(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n")
    (record,) = read_conll(path, text="words", labels="labels")
    assert record.fields == {"words": ["EU", "rejects"], "labels": ["B-ORG", "O"]}


CONLLU = (
    "# newdoc id = d\n# sent_id = 1\n# text = he ran\n1-2\the ran" + "\t_" * 8 + "\n"
    "1\the\the\tPRON\tPRP\t_\t2\tnsubj\t_\tSpaceAfter=No\n"
    "2\tran\trun\tVERB\tVBD\t_\t0\troot\t_\t_\n2.1\tran" + "\t_" * 8 + "\n\n"
)


def test_words_and_parts_of_speech_are_read_of_universal_dependencies(tmp_path: Path) -> None:
    """Multi-word tokens and empty nodes are no words: those have lines of their own."""
    path = tmp_path / "a.conllu"
    path.write_text(CONLLU + CONLLU.replace("# newdoc id = d\n", "#text=\n"))
    first, second = read_conll(path, text="words", labels="labels")
    assert first.fields == {"words": ["he", "ran"], "labels": ["PRON", "VERB"]}
    assert second.fields == first.fields
    assert (first.place, second.place) == (f"{path}, line 5", f"{path}, line 13")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("# sent_id = 1\na\tX\n# text = a b\nb\tY\n", ["a", "b"]),
        ("# free words\n# # B-NP\na DT B-NP\n# # I-NP\n5 CD I-NP\n# x = y\n", ["a", "#", "5"]),
        ("#\tO\na\tO\n#tag\tO\n", ["#", "a", "#tag"]),
        ("# only one\na\n# x = y\n#\n", ["a", "#"]),
    ],
    ids=["named comments", "pound signs between blanks", "pound signs before tabs", "words alone"],
)
def test_comments_are_told_from_pound_signs(content: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(content)
    (record,) = read_conll(path, text="words", labels="labels")
    assert record.fields["words"] == words


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a\tO\nb\n", "line 2: 1 columns ('b'), but line 1 has 2. A line is a word and its label"),
        ("# id = 1\na b c d e f\n", "line 2: 6 columns ('a b c d e f'). A line is a word"),
        (CONLLU.replace("2\tran", "x\tran"), "line 6: 'x' is not the number of a word"),
        (CONLLU.replace("VERB", "_"), "lacks the word or its label"),
        ("a\tO\n\tO\n", "line 2: '\\tO' lacks the word or its label"),
        ("\n\n", "holds no sentence"),
    ],
)
def test_faulty_conll_files_are_explained(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_conll(path, text="words", labels="labels")
    assert says in str(caught.value)


def squad(**question: object) -> str:
    content = {"id": "q1", "question": "who?", "answers": [{"text": "a", "answer_start": 0}]}
    paragraph = {"context": "ab", "qas": [content | question]}
    return json.dumps({"data": [{"title": "t", "paragraphs": [paragraph]}]})


def test_questions_come_with_context_answers_and_article(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(squad())
    (record,) = read_squad(path)
    assert record.fields == {
        "id": "q1",
        "question": "who?",
        "context": "ab",
        "article": "t",
        "answers": [{"text": "a", "answer_start": 0}],
    }


def test_an_impossible_question_has_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(squad(is_impossible=True))
    assert read_squad(path)[0].fields["answers"] == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[]", "no list 'data'"),
        ('{"data": [{}]}', "data[0]: no list 'paragraphs'"),
        ('{"data": []}', "holds no question"),
        (squad(question=None), "qas[0]: 'question' is missing"),
        (squad(answers=[{"text": "a"}]), "answer_start is missing"),
    ],
)
def test_faulty_question_files_are_explained(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_squad(path)
    assert says in str(caught.value)


def test_two_questions_of_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    one = json.loads(squad())["data"]
    path.write_text(json.dumps({"data": one + one}))
    with pytest.raises(DataError, match="id 'q1' was used before"):
        read_squad(path)


def test_lists_become_json_in_a_cell(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{"answers": ["x", "y"]}])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert json.loads(next(csv.DictReader(file))["answers"]) == ["x", "y"]
