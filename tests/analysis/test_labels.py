"""Files of labels: what is read and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from seqmlm.analysis.labels import LabelledText, bounded, read_labelled_texts
from seqmlm.errors import ConfigError, DataError


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content)
    return path


def test_json_lines_give_a_label_per_text(tmp_path: Path) -> None:
    content = '{"text": "x y", "label": "A"}\n\n{"text": "z", "label": 2, "document": "d"}\n'
    path = written(tmp_path, "a.jsonl", content)
    assert read_labelled_texts(path) == [
        LabelledText(("x y",), ("A",), "1", f"{path}, line 1"),
        LabelledText(("z",), ("2",), "d", f"{path}, line 3"),
    ]


def test_columns_give_a_label_per_word(tmp_path: Path) -> None:
    """First and last column; each text is a document where none is marked."""
    content = "# sent_id = 1\nthe DT O\nfox NN B\n\n\n# runs\nran\tVBD\tO\n"
    path = tmp_path / "a.conll.gz"
    path.write_bytes(gzip.compress(content.encode()))
    first, second = read_labelled_texts(path)
    assert (first.words, first.labels, first.document) == (("the", "fox"), ("O", "B"), "0")
    assert (second.words, second.labels, second.document) == (("ran",), ("O",), "1")
    assert first.place == f"{path}, line 2"


def test_csv_gives_a_label_per_text(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'label,text,extra\nA,"x, y",1\n2,z,1\n')
    assert read_labelled_texts(path) == [
        LabelledText(("x, y",), ("A",), "1", f"{path}, line 2"),
        LabelledText(("z",), ("2",), "2", f"{path}, line 3"),
    ]
    path = written(tmp_path, "b.csv", "text,label,document\nx,A,d\n")
    assert [text.document for text in read_labelled_texts(path)] == ["d"]


def test_whole_texts_are_drawn_until_the_words_are_enough(tmp_path: Path) -> None:
    texts = [LabelledText(("w",) * size, ("A",) * size, "d", str(size)) for size in (3, 1, 2, 4)]
    for seed in range(20):
        drawn = bounded(texts, 6, seed=seed)
        assert 3 <= sum(len(text.words) for text in drawn) <= 6
        assert drawn == [text for text in texts if text in drawn], "in their own order"
        assert drawn == bounded(texts, 6, seed=seed)
    assert bounded(texts, 10, seed=0) == texts
    assert len({str(bounded(texts, 6, seed=seed)) for seed in range(20)}) > 1
    with pytest.raises(DataError, match="4 words in one text, but max words = 2"):
        bounded(texts[3:], 2, seed=0)
    with pytest.raises(ConfigError, match="max words = 1: must be at least 2"):
        bounded(texts, 1, seed=0)


@pytest.mark.parametrize("mark", ["-DOCSTART- -X- O", "# newdoc id = 7"], ids=["CoNLL", "UD"])
def test_marks_keep_the_texts_of_a_document_together(tmp_path: Path, mark: str) -> None:
    path = written(tmp_path, "a.txt", f"{mark}\n\na X\n\nb Y\n\n{mark}\nc X\n")
    assert [text.document for text in read_labelled_texts(path)] == ["1", "1", "2"]


def test_parts_of_speech_are_the_labels_of_universal_dependencies(tmp_path: Path) -> None:
    """Not the number of the word, nor the notes of the last column."""
    word = "{}\t{}\tlemma\t{}\tNN\t_\t0\troot\t_\tSpaceAfter=No\n"
    sentence = (
        word.format("1-2", "don't", "_")
        + word.format(1, "do", "AUX")
        + word.format(2, "n't", "PART")
    )
    content = f"# newdoc id = a\n# sent_id = 1\n{sentence}\n# sent_id = 2\n{sentence}\n"
    path = written(tmp_path, "a.conllu", content + content)
    texts = read_labelled_texts(path)
    assert {text.words for text in texts} == {("do", "n't")}
    assert {text.labels for text in texts} == {("AUX", "PART")}
    assert [text.document for text in texts] == ["1", "1", "2", "2"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"text": "x"}\n', "line 1: label = None"),
        ("a.jsonl", '{"text": "x", "label": "A"}\n[1]\n', "line 2: it must be an object"),
        ("a.jsonl", "{\n", "line 1: not JSON"),
        ("a.tsv", "a\tX\nb\n", "line 2: 1 columns .'b'., but line 1 has 2. A line is"),
        ("a.tsv", "# nothing\n\n", "no labelled text in it"),
        ("a.csv", "text,topic\nx,A\n", "columns are text, topic; .*Read are JSON Lines"),
        ("a.csv", "text,label\nx\n", "line 2: 1 fields, but the header has 2"),
        ("a.txt", "word\n", "'word': a word and its label .* Read are JSON Lines .* and CSV"),
        ("a.conllu", "1\ta\ta\tX\t_\t_\n", "line 1: 6 columns .* FORM and UPOS are read"),
    ],
    ids=["no label", "no object", "no JSON", "one column", "empty", "CSV without label",
         "CSV cut", "formats", "columns"],
)  # fmt: skip
def test_faults_are_named_with_their_line(
    tmp_path: Path, name: str, content: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        read_labelled_texts(written(tmp_path, name, content))
