"""No NaN reaches the weights or the disk, and no batch makes one out of nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from seqmlm.training.step import LossModule, Stepper, StepResult

if TYPE_CHECKING:
    from tests.e2e.conftest import Cli

    Fault = Callable[[LossModule, Tensor], Tensor]
    Weights = dict[int, tuple[str, str]]
    Inject = Callable[[Fault, set[int]], Weights]


def loss_becomes(value: float) -> Fault:
    return lambda module, sums: sums + value


def one_gradient_entry_becomes_nan(module: LossModule, sums: Tensor) -> Tensor:
    entry = module.model.encoder.token_embedding.weight.view(-1)[7] * 1.0
    entry.register_hook(lambda gradient: gradient + math.nan)  # type: ignore[no-untyped-call]
    return sums + 0 * entry


FAULTS: dict[str, Fault] = {
    "loss NaN": loss_becomes(math.nan),
    "loss +Inf": loss_becomes(math.inf),
    "loss -Inf": loss_becomes(-math.inf),
    "gradient NaN": one_gradient_entry_becomes_nan,
}


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Inject:
    """Break some steps of the runs that follow.

    What it returns fills up with the fingerprints of the weights before and after each step.
    """

    def install(fault: Fault, steps: set[int]) -> Weights:
        forward, do_step = LossModule.forward, Stepper.step
        weights: Weights = {}

        def broken_forward(self: LossModule, batch: Any) -> Tensor:
            sums = forward(self, batch)
            return fault(self, sums) if len(weights) + 1 in steps else sums

        def watched_step(self: Stepper, *arguments: Any, **options: Any) -> StepResult:
            assert isinstance(self.module, LossModule)
            before = self.module.model.fingerprint()
            result = do_step(self, *arguments, **options)
            weights[len(weights) + 1] = (before, self.module.model.fingerprint())
            return result

        monkeypatch.setattr(LossModule, "forward", broken_forward)
        monkeypatch.setattr(Stepper, "step", watched_step)
        return weights

    return install


def all_tensors_are_finite(run: Path) -> bool:
    paths = list(run.rglob("*.safetensors"))
    assert paths
    return all(
        bool(tensor.isfinite().all()) for path in paths for tensor in load_file(path).values()
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_is_not_finite_is_skipped_and_its_records_are_listed(
    fault: str, inject: Inject, train: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    weights = inject(FAULTS[fault], {7})
    outcome = train(run)
    assert "step 7 skipped" in outcome.stderr
    unchanged = [step for step, (before, after) in weights.items() if before == after]
    assert unchanged == [7]
    dump = json.loads((run / "non-finite-step-00000007.json").read_text())
    assert (dump["step"], dump["epoch"]) == (7, 1)
    assert dump["records"]
    bad, good = "loss", "gradient_norm"
    if fault == "gradient NaN":
        bad, good = good, bad
    assert not math.isfinite(float(dump[bad]))
    assert math.isfinite(float(dump[good]))
    assert all_tensors_are_finite(run)


@pytest.mark.parametrize("fault", FAULTS)
def test_three_in_a_row_end_the_run_which_can_then_go_on(
    fault: str,
    inject: Inject,
    cli: Cli,
    tiny_config: str,
    tiny_fasta: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    weights = inject(FAULTS[fault], {7, 8, 9})
    failed = cli(
        "-q", "train", "--config", tiny_config, "--data", tiny_fasta, "--output", run,
        "--set", "training.checkpoint_every=2",
    )  # fmt: skip
    assert failed.exit_code == 1
    *warnings, message = failed.stderr.splitlines()
    assert len(warnings) == 3
    assert "not finite 3 times in a row, the last at step 9" in message
    assert "optimizer.learning_rate" in message
    assert weights[6][1] == weights[7][1] == weights[8][1] == weights[9][1]
    assert all_tensors_are_finite(run)
    assert json.loads((run / "status.json").read_text())["status"] == "failed"
    monkeypatch.undo()
    assert cli("train", "--resume", "--output", run).exit_code == 0


def test_bad_steps_that_are_not_in_a_row_do_not_end_the_run(
    inject: Inject, train: Cli, tmp_path: Path
) -> None:
    weights = inject(FAULTS["loss NaN"], {3, 4, 6, 7, 9})
    train(tmp_path / "run")
    unchanged = [step for step, (before, after) in weights.items() if before == after]
    assert unchanged == [3, 4, 6, 7, 9]


def losses(run: Path, split: str = "train") -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["split"] == split]


def test_steps_without_any_target_have_loss_zero(train: Cli, tmp_path: Path) -> None:
    train(tmp_path / "run", "--set", "objectives.0.policy.rate=1e-12")
    assert losses(tmp_path / "run") == [0.0] * 20
    assert all_tensors_are_finite(tmp_path / "run")


@pytest.mark.parametrize("validation", [0.15, 0.0], ids=["held out", "nothing held out"])
def test_records_of_one_residue_and_records_that_cannot_be_masked_are_trained_on(
    validation: float, train: Cli, tmp_path: Path
) -> None:
    """Failed before: held-out records without a hidden token ended the run at its evaluation."""
    fasta = tmp_path / "short.fasta"
    residues = [f">{residue}\n{residue}\n" for residue in "ACDEFGHIKLMNPQRSTVWY"]
    fasta.write_text("".join(residues) + ">masked\nXXXXX\n>also\nBZ\n" + ">long\nMKTAYIAKQR\n")
    run = tmp_path / "run"
    options = ("--set", f"data.validation_fraction={validation}")
    outcome = train(run, *options, "--set", "training.tokens_per_batch=1", data=fasta)
    assert "there will be no validation" in outcome.stderr
    assert all(math.isfinite(loss) for loss in losses(run))
    assert 0.0 in losses(run), "a batch of one record without targets"
    assert losses(run, "validation") == []
    assert all_tensors_are_finite(run)


def test_micro_batches_change_nothing_even_when_most_are_empty(train: Cli, tmp_path: Path) -> None:
    """With one token a batch has one record: two of the three micro-batches have none."""
    options = ("--set", "model.dropout=0", "--set", "training.tokens_per_batch=1")
    train(tmp_path / "one", *options)
    train(tmp_path / "three", *options, "--set", "training.micro_batches=3")
    assert losses(tmp_path / "three") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
