"""``seqmlm finetune`` and ``seqmlm predict``, with good and with bad input."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seqmlm.cli import main
from tests.finetuning import labelled_data as data

Command = Callable[..., tuple[int, str, str]]
FAST = ("--epochs", 2, "--device", "cpu", "--learning-rate", 0.01)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["seqmlm", "-q", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return int(end.value.code or 0), output.out, output.err

    return run


def test_a_model_is_fine_tuned_and_predicts_a_file(
    command: Command, text_run: Path, tmp_path: Path
) -> None:
    train = data.write_intents(tmp_path / "train.csv")
    test = data.write_intents(tmp_path / "test.csv", count=20, seed=1)
    renamed = train.read_text().replace("text,label", "text,intent", 1)
    train.write_text(renamed)
    test.write_text(test.read_text().replace("text,label", "text,intent", 1))
    run = tmp_path / "run"
    code, out, err = command(
        "finetune", text_run, "--task", "classification", "--data", train, "--test", test,
        "--column", "label=intent", "--output", run, *FAST, "--json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(out)
    assert report["test"]["examples"] == 20
    assert report["best_epoch"] in (1, 2)
    assert report["test"] == json.loads((run / "evaluation.json").read_text())["test"]
    lines = tmp_path / "some.csv"
    lines.write_text("n,text\n1,ab xx\n2,\n3,yy cd\n")
    code, out, err = command("predict", run, lines, "--output", tmp_path / "out.csv")
    assert (code, out) == (0, f"{tmp_path / 'out.csv'}\n")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["n"] for row in rows] == ["1", "2", "3"]
    assert rows[1]["prediction"] == rows[1]["probability"] == ""
    assert 0.5 <= float(rows[0]["probability"]) <= 1


def test_the_tables_show_measures_and_bars(
    command: Command, text_run: Path, tmp_path: Path
) -> None:
    train = data.write_intents(tmp_path / "train.csv", count=40)
    code, out, err = command(
        "finetune", text_run, "--task", "classification", "--data", train,
        "--output", tmp_path / "run", *FAST, "--freeze", 2,
    )  # fmt: skip
    assert code == 0, err
    for text in ("validation: 4 examples", "accuracy", "macro_f1", "bar: accuracy of the most"):
        assert text in out


INTENTS = "text,label\n" + "".join(f"a{i},x\nb{i},y\n" for i in range(10))


@pytest.mark.parametrize(
    ("content", "arguments", "exit_code", "says"),
    [
        pytest.param(
            "text,labl\nab,x\n", [], 3, "no column 'label'. Did you mean 'labl'?", id="column"
        ),
        pytest.param("text,label\nab,x\ncd,x\n", [], 3, "all labels are 'x'", id="one-class"),
        pytest.param("text,label\nab,x\ncd,\n", [], 3, "line 3: the label (label) is empty",
                     id="empty-label"),
        pytest.param("text,label\n,x\n ,y\n", [], 3, "no item can be trained on", id="all-empty"),
        pytest.param(INTENTS, ["--task", "clasification"], 2, "Did you mean 'classification'?",
                     id="task"),
        pytest.param(INTENTS, ["--column", "labels=x"], 2, "Did you mean 'label_column'?",
                     id="role"),
        pytest.param(INTENTS, ["--column", "label"], 2, "write it as ROLE=NAME", id="assignment"),
        pytest.param(INTENTS, ["--freeze", "9"], 2, "the encoder has 2 layers", id="freeze"),
        pytest.param(INTENTS, ["--set", "training.epoch=3"], 2, "training.epoch: unknown key",
                     id="key"),
        pytest.param(INTENTS, ["--set", "optimizer.learning_rate=-1"], 2,
                     "optimizer.learning_rate = -1", id="rate"),
        pytest.param(INTENTS, ["--validation", "{folder}/other.csv"], 3,
                     "the training data have no label 'z'", id="unknown-label"),
        pytest.param(INTENTS, ["--resume"], 2, "There is no folder", id="nothing-to-resume"),
    ],
)  # fmt: skip
def test_mistakes_are_one_clear_line(
    content: str, arguments: list[str], exit_code: int, says: str,
    command: Command, text_run: Path, tmp_path: Path,
) -> None:  # fmt: skip
    train, other = tmp_path / "train.csv", tmp_path / "other.csv"
    train.write_text(content)
    other.write_text("text,label\nab,z\n")
    given = [argument.replace("{folder}", str(tmp_path)) for argument in arguments]
    task = [] if "--task" in given else ["--task", "classification"]
    code, out, err = command(
        "finetune", text_run, *task, "--data", train, "--output", tmp_path / "run", *FAST, *given
    )
    assert code == exit_code, err
    assert says in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert out == ""


def test_a_fine_tuned_run_is_not_judged_by_hidden_tokens(command: Command, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "task.json").write_text("{}")
    code, _, err = command("evaluate", tmp_path)
    assert code == 2
    assert "seqmlm predict" in err


def test_a_model_without_a_task_cannot_predict(
    command: Command, text_run: Path, tmp_path: Path
) -> None:
    code, _, err = command("predict", text_run, "x.csv", "--output", tmp_path / "out.csv")
    assert code == 1
    assert "has not been fine-tuned" in err
    assert "Traceback" not in err
