from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from seqmlm.training.signals import StopSignals


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_signal_asks_for_its_exit_code(number: int, exit_code: int) -> None:
    with StopSignals() as signals:
        assert signals.stop_requested is None
        send(number)
        assert signals.stop_requested == exit_code


def test_a_second_sigint_stops_at_once() -> None:
    with StopSignals() as signals:
        send(signal.SIGINT)
        assert signals.stop_requested == 130
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_the_first_signal_gives_the_exit_code() -> None:
    with StopSignals() as signals:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert signals.stop_requested == 143


def test_sigusr1_asks_for_one_save_and_not_for_a_stop() -> None:
    with StopSignals() as signals:
        send(signal.SIGUSR1)
        assert [signals.take_save_request(), signals.take_save_request()] == [True, False]
        assert signals.stop_requested is None


def test_sigusr2_prints_stacks_and_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    with StopSignals() as signals:
        send(signal.SIGUSR2)
        assert signals.stop_requested is None
    assert "test_sigusr2_prints_stacks_and_goes_on" in capfd.readouterr().err


def test_previous_handlers_are_restored_after_an_error() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(KeyboardInterrupt), StopSignals():
        raise KeyboardInterrupt
    assert [signal.getsignal(number) for number in numbers] == before


def test_another_thread_than_the_main_one_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def block() -> None:
        with StopSignals() as signals:
            seen.extend([signal.getsignal(signal.SIGTERM), signals.stop_requested])

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [before, None]


def test_a_signalled_process_finishes_its_step_and_ends_with_the_exit_code(
    fork: Callable[[Callable[[], None]], int],
) -> None:
    reader, writer = os.pipe()

    def loop() -> None:
        with StopSignals() as signals:
            os.write(writer, b"ready")
            while signals.stop_requested is None:
                pass
            os.write(writer, b"saved")
            os._exit(signals.stop_requested)

    child = fork(loop)
    os.close(writer)
    with os.fdopen(reader, "rb") as messages:
        assert messages.read(5) == b"ready"
        os.kill(child, signal.SIGTERM)
        assert messages.read() == b"saved"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
