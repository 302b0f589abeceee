"""Labelled proteins: which files, which columns, what belongs to what, and how they are parted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from seqmlm.domain import build_domain
from seqmlm.errors import DataError
from seqmlm_domains.protein.probes.split import parts_of_groups, share_with_neighbour
from seqmlm_domains.protein.probes.task import (
    Columns,
    NoClassesError,
    ProbeTask,
    bounded,
    read_task,
)
from seqmlm_domains.protein.probes.task_files import find_tasks

PROTEIN = build_domain({"name": "protein"})
DISTINCT = (
    "MKTAYIAKQRQISFVKSHFS", "MSIQHFRVALIPFFAAFCLP", "GSHMASMTGGQQMGRGSEFE", "MALWMRLLPLLALLALWGPD",
    "MVLSPADKTNVKAAWGKVGA", "MGLSDGEWQLVLNVWGKVEA", "MNIFEMLRIDEGLRLKIYKD", "KVFGRCELAAAMKRHGLDNY",
    "MQIFVKTLTGKTITLEVEPS", "MTEYKLVVVGAGGVGKSALT",
)  # fmt: skip


def read(path: Path, columns: Columns | None = None) -> ProbeTask:
    (files,) = find_tasks(path)
    return read_task(files, PROTEIN, columns=columns)


def labels_of(task: ProbeTask, part: str) -> list[tuple[str, ...]]:
    return [protein.labels for protein in getattr(task, part)]


def write_split(folder: Path, name: str, **parts: str) -> None:
    for part, content in parts.items():
        (folder / f"{name}.{part}.csv.gz").write_bytes(gzip.compress(content.encode()))


def test_files_of_one_task_are_found_by_their_common_name(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        content = "label,seq\n0,MKTAY\n1,GSHMA\n"
        write_split(tmp_path, "signal", **{part: content})
    task = read(tmp_path / "signal")
    assert (task.name, task.level, task.split) == ("signal", "protein", "the files'")
    assert labels_of(task, "train") == labels_of(task, "test") == [("0",), ("1",)]


def test_a_folder_has_a_task_for_each_name(tmp_path: Path) -> None:
    for name in ("scop.train.csv", "scop.test.csv", "fold.dev.tsv", "fold.test.tsv", "README.txt"):
        (tmp_path / name).write_text("")
    found = {files.name: set(files.files) for files in find_tasks(tmp_path)}
    assert found == {"scop": {"train", "test"}, "fold": {"validation", "test"}}


def test_plain_names_make_a_task_named_like_the_folder(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("")
    (files,) = find_tasks(tmp_path)
    assert files.name == tmp_path.name


LIKE_LABELS_OF_RESIDUES = {
    "csv": ("x.csv", "sequence,label,split\nMKTAY,HHCCE,train\nGSHMA,CCCCC,test\nWWW,HHH,dev\n"),
    "json list": ("x.jsonl", "".join(
        json.dumps({"sequence": sequence, "label": list(label), "split": split}) + "\n"
        for sequence, label, split in
        [("MKTAY", "HHCCE", "train"), ("GSHMA", "CCCCC", "test"), ("WWW", "HHH", "dev")]
    )),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"), LIKE_LABELS_OF_RESIDUES.values(), ids=LIKE_LABELS_OF_RESIDUES
)
def test_a_label_as_long_as_its_sequence_is_of_residues(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    task = read(tmp_path / name)
    assert task.level == "residue"
    assert labels_of(task, "train") == [("H", "H", "C", "C", "E")]
    assert labels_of(task, "validation") == [("H", "H", "H")]


def test_a_removed_stop_takes_its_label_along(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("sequence,label,split\nMKT*,HCE-,train\nMK,HH,dev\nMKTAY,HHHHH,test\n")
    assert labels_of(read(path), "train") == [("H", "C", "E")]


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("aa,ss3,ss8,split\nMKT,HCE,GCE,train\nMK,HH,GG,dev\nMK,CC,CC,test\n")
    task = read(path, Columns(sequence="aa", label="ss8"))
    assert labels_of(task, "train") == [("G", "C", "E")]


def test_one_table_is_parted_by_clusters(tmp_path: Path) -> None:
    """Twins share their 5-mers, so both are in one part; each part gets some."""
    path = tmp_path / "x.csv"
    twins = [sequence[:-1] + "W" for sequence in DISTINCT]
    rows = [f"{each},{i % 2}" for i, each in enumerate([*DISTINCT, *twins])]
    path.write_text("sequence,label\n" + "\n".join(rows) + "\n")
    task = read(path)
    parts = [[PROTEIN.decode(p.encoding.ids.tolist())[:-1] for p in getattr(task, part)]
             for part in ("train", "validation", "test")]  # fmt: skip
    assert sorted(each for part in parts for each in part) == sorted(
        each[:-1] for each in [*DISTINCT, *twins]
    )
    assert all(parts)
    assert not set(parts[0]) & set(parts[1]) | set(parts[1]) & set(parts[2])
    assert not set(parts[0]) & set(parts[2])
    assert task.split == "x.csv split at random by clusters of shared 5-mers"


def test_without_training_data_the_validation_data_stand_in(tmp_path: Path) -> None:
    rows = "".join(f"{each},{i % 2}\n" for i, each in enumerate(DISTINCT))
    write_split(tmp_path, "ss", valid="seq,label\n" + rows, test="seq,label\nMKT,0\n")
    task = read(tmp_path / "ss")
    assert len(task.train) + len(task.validation) == 10
    assert len(task.validation) >= 1
    assert "the validation data stand in" in task.split


def test_the_bound_counts_labels_and_takes_whole_proteins(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [f"{each},{'HC' * 10},train" for each in DISTINCT]
    path.write_text("\n".join(["sequence,label,split", *rows, "MK,HC,dev", "MK,HC,test"]) + "\n")
    task = read(path)
    assert [len(bounded(task, most, seed=0).train) for most in (1, 59, 60, 10_000)] == [1, 2, 3, 10]
    assert bounded(task, 59, seed=0) == bounded(task, 59, seed=0)


def test_held_out_parts_are_whole_groups_of_about_their_share() -> None:
    groups = np.repeat(np.arange(100), 3)
    parts = parts_of_groups(groups, {"validation": 0.1, "test": 0.2}, seed=1)
    for group in range(100):
        assert len(set(parts[groups == group].tolist())) == 1
    assert (parts == "validation").sum() == 30
    assert (parts == "test").sum() == 60


def test_the_share_of_tested_proteins_with_a_relative_in_training() -> None:
    train = [PROTEIN.parse(each) for each in DISTINCT[:5]]
    test = [PROTEIN.parse(DISTINCT[0][:-1] + "W"), *(PROTEIN.parse(each) for each in DISTINCT[5:8])]
    assert share_with_neighbour(PROTEIN, test, train) == 0.25


HEAD = "sequence,label,split\n"
REFUSED = {
    "too few labels": (
        HEAD + "MKTAY,HHHHH,train\nMKTAY,HHHH,train\n", "line 3: 4 labels for 5 residues"),
    "no amino acid": (HEAD + "MKTAY,a,train\nMK1AY,b,test\n", "line 3: input: position 3 is '1'"),
    "no sequence": (HEAD + ",a,train\n", "line 2: The input '' holds no residue"),
    "no label": (HEAD + "MKTAY,,train\n", "line 2: 'label' has no value"),
    "unknown part": (HEAD + "MKTAY,a,trian\n", "line 2: split is 'trian'; allowed: train"),
    "no test": (HEAD + "MKTAY,a,train\nMKTAY,b,train\n", "there are only those of train"),
    "one class": (HEAD + "MKT,a,train\nMKT,a,dev\nMKT,b,test\n", "all training labels are 'a'"),
    "measured": (HEAD + "MKTA,0.5,train\nMKTA,1.0,train\nMKTA,1.0,dev\nMKTA,2.5,test\n",
                 "these are no classes.*finetune RUN --task regression"),
    "no column": ("protein,fold\nMKT,a\n", "no column is called label or .* --label-column NAME"),
    "a row too short": (HEAD + "MKT,a\n", "line 2: 2 fields, but the header has 3"),
    "one cluster": ("sequence,label\nMKTAYIAKQR,a\nMKTAYIAKQR,b\n", "needs several"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "says"), REFUSED.values(), ids=REFUSED)
def test_a_table_that_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=says):
        read(path)


def test_a_column_that_is_not_there_is_refused_with_the_closest(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(HEAD + "MKT,a,train\n")
    with pytest.raises(DataError, match=r"no column 'lable'\. Did you mean 'label'"):
        read(path, Columns(label="lable"))


def test_a_misspelt_usual_column_is_refused_with_the_closest(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("sequence,lable\nMKT,a\n")
    with pytest.raises(DataError, match=r"no column is called label .*Did you mean 'lable'\?"):
        read(path)


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing does not exist, nor .*nothing\.train\.csv"):
        find_tasks(tmp_path / "nothing")
    with pytest.raises(DataError, match="no labelled task in the folder"):
        find_tasks(tmp_path)
    for name in ("x.valid.csv", "x.dev.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match="are both the validation part"):
        find_tasks(tmp_path)


def test_a_task_without_test_data_is_told_apart_from_a_broken_one(tmp_path: Path) -> None:
    """So that a folder's other tasks can go on."""
    write_split(tmp_path, "x", valid="seq,label\nMKT,1\nMKT,2\n")
    with pytest.raises(NoClassesError):
        read(tmp_path / "x")
