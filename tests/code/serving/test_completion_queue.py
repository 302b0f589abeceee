from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest
import pytest_asyncio

from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.code.completion.completion import CompletionResult
from seqmlm_domains.code.serving import completion_queue
from seqmlm_domains.code.serving.completion_queue import (
    CompletionQueue,
    InferenceStopped,
    QueueClosed,
    QueueFull,
    Superseded,
)
from seqmlm_domains.code.serving.queue_statistics import Outcome
from tests.code.serving.scripted_completer import ScriptedCompleter, named, request

pytestmark = pytest.mark.asyncio

NEVER_S = 60.0
dies = pytest.mark.filterwarnings("ignore:Exception in thread seqmlm-inference")
MakeQueue = Callable[..., CompletionQueue]


@pytest_asyncio.fixture
async def make_queue() -> AsyncIterator[MakeQueue]:
    """Make queues, and close them at the end of the test."""
    made: list[tuple[CompletionQueue, ScriptedCompleter]] = []

    def make(
        completer: ScriptedCompleter, *, capacity: int = 16, max_batch: int = 8
    ) -> CompletionQueue:
        made.append((CompletionQueue(completer, capacity=capacity, max_batch=max_batch), completer))
        return made[-1][0]

    yield make
    for queue, completer in made:
        completer.let_go()
        queue.close()


def ask(
    queue: CompletionQueue, name: str, *, deadline_s: float = NEVER_S, document: str | None = None
) -> asyncio.Task[CompletionResult]:
    return asyncio.create_task(
        queue.complete(request(name), deadline_s=deadline_s, document=document)
    )


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, NEVER_S)


async def ask_and_hold(
    queue: CompletionQueue, completer: ScriptedCompleter, name: str = "held"
) -> asyncio.Task[CompletionResult]:
    """Ask, and return once the forward pass for it has begun."""
    task = ask(queue, name)
    await until(completer.pass_began)
    return task


async def held_queue(
    make_queue: MakeQueue, *, capacity: int = 16, max_batch: int = 8
) -> tuple[CompletionQueue, ScriptedCompleter, asyncio.Task[CompletionResult]]:
    """A queue, its completer, and the request whose forward pass the completer holds."""
    completer = ScriptedCompleter(is_held=True)
    queue = make_queue(completer, capacity=capacity, max_batch=max_batch)
    return queue, completer, await ask_and_hold(queue, completer)


async def let_tasks_start(*tasks: asyncio.Task[CompletionResult]) -> None:
    await asyncio.wait(tasks, timeout=0)


async def test_what_waits_goes_through_one_forward_pass_oldest_first(
    make_queue: MakeQueue,
) -> None:
    queue, completer, first = await held_queue(make_queue, max_batch=3)
    others = [ask(queue, name) for name in "abcd"]
    await let_tasks_start(*others)
    completer.let_go()

    assert await asyncio.gather(first, *others) == [named(name) for name in ("held", *"abcd")]
    assert completer.passes == [["held"], ["a", "b", "c"], ["d"]]
    assert (queue.statistics().batches, queue.statistics().batched) == (3, 5)


async def test_a_cancelled_await_costs_no_forward_pass(make_queue: MakeQueue) -> None:
    queue, completer, first = await held_queue(make_queue)
    cancelled, kept = ask(queue, "cancelled"), ask(queue, "kept")
    await let_tasks_start(cancelled, kept)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert queue.statistics().waiting == 1
    completer.let_go()
    await asyncio.gather(first, kept)

    assert completer.passes == [["held"], ["kept"]]
    assert queue.statistics().ended[Outcome.CANCELLED] == 1


async def test_cancelling_one_of_a_running_batch_leaves_the_others_answered(
    make_queue: MakeQueue,
) -> None:
    queue, completer, running = await held_queue(make_queue)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    later = ask(queue, "later")
    await let_tasks_start(later)
    completer.let_go()

    assert await later == named("later")
    assert queue.is_alive


async def test_a_storm_of_cancellations_costs_no_forward_pass(make_queue: MakeQueue) -> None:
    queue, completer, first = await held_queue(make_queue, capacity=1_001)
    storm = [ask(queue, str(number)) for number in range(1_000)]
    await let_tasks_start(*storm)
    for task in storm[:-1]:
        task.cancel()
    gone = await asyncio.gather(*storm[:-1], return_exceptions=True)
    completer.let_go()

    assert await storm[-1] == named("999")
    assert await first == named("held")
    assert {type(error) for error in gone} == {asyncio.CancelledError}
    assert completer.passes == [["held"], ["999"]]
    statistics = queue.statistics()
    assert sum(statistics.ended.values()) == statistics.accepted == 1_001
    assert (statistics.unanswered, statistics.waiting) == (0, 0)


async def test_the_newest_request_of_a_document_wins(make_queue: MakeQueue) -> None:
    queue, completer, first = await held_queue(make_queue)
    older = ask(queue, "older", document="a.py")
    other = ask(queue, "other", document="b.py")
    newer = ask(queue, "newer", document="a.py")
    with pytest.raises(Superseded, match=r"a\.py"):
        await older
    completer.let_go()
    await asyncio.gather(first, other, newer)

    assert completer.passes == [["held"], ["other", "newer"]]
    assert queue.statistics().ended[Outcome.SUPERSEDED] == 1


async def test_requests_without_a_document_do_not_replace_one_another(
    make_queue: MakeQueue,
) -> None:
    queue = make_queue(ScriptedCompleter())
    first, second = await asyncio.gather(ask(queue, "a"), ask(queue, "b"))

    assert (first, second) == (named("a"), named("b"))


async def test_a_newer_request_takes_the_place_of_the_older_in_a_full_queue(
    make_queue: MakeQueue,
) -> None:
    queue, completer, first = await held_queue(make_queue, capacity=2)
    older = ask(queue, "older", document="a.py")
    await let_tasks_start(older)
    newer = ask(queue, "newer", document="a.py")
    with pytest.raises(Superseded):
        await older
    completer.let_go()

    assert await newer == named("newer")
    await first


async def test_past_the_deadline_the_answer_is_lexical_while_the_forward_pass_still_runs(
    make_queue: MakeQueue,
) -> None:
    queue, completer, first = await held_queue(make_queue)
    late = await ask(queue, "late", deadline_s=0)
    assert late == named("late", used_model=False)
    assert queue.batch_running_s > 0
    completer.let_go()
    await first

    assert completer.passes == [["held"]], "what was answered lexically costs no forward pass"
    assert queue.statistics().ended[Outcome.LEXICAL] == 1
    assert sum(queue.statistics().latency.counts) == 2


async def test_a_failure_that_comes_after_the_deadline_is_not_logged_as_unheard(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    completer = ScriptedCompleter(is_held=True, poison={"bad": DataError("bad")})
    queue = make_queue(completer)
    task = asyncio.create_task(queue.stream(request("bad"), deadline_s=0).__anext__())
    await until(completer.pass_began)
    assert (await task).used_model is False
    with caplog.at_level(logging.ERROR):
        completer.let_go()
        await ask(queue, "good")

    assert caplog.records == []


async def test_a_full_queue_refuses_at_once_and_tells_when_to_come_again(
    make_queue: MakeQueue,
) -> None:
    queue, completer, first = await held_queue(make_queue, capacity=2)
    second = ask(queue, "second")
    await let_tasks_start(second)
    with pytest.raises(QueueFull, match="try again in") as refusal:
        await queue.complete(request("third"), deadline_s=NEVER_S)
    assert refusal.value.retry_after_s >= 0
    completer.let_go()
    await asyncio.gather(first, second)

    assert await queue.complete(request("fourth"), deadline_s=NEVER_S) == named("fourth")
    assert queue.statistics().rejected == 1
    assert ["third"] not in completer.passes


async def test_a_place_can_be_asked_for_before_there_is_a_request(make_queue: MakeQueue) -> None:
    completer = ScriptedCompleter(is_held=True)
    queue = make_queue(completer, capacity=1)
    assert queue.refusal() is None
    running = await ask_and_hold(queue, completer)
    assert isinstance(queue.refusal(), QueueFull)
    completer.let_go()
    await running
    await queue.drain(timeout_s=NEVER_S)

    assert isinstance(queue.refusal(), QueueClosed)


async def test_each_that_is_refused_is_told_a_turn_of_its_own(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [time.monotonic()]
    monkeypatch.setattr(completion_queue, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    first, second = ScriptedCompleter(is_held=True), ScriptedCompleter(is_held=True)
    queue = make_queue(first, capacity=1)
    running = await ask_and_hold(queue, first)
    now_s[0] += 2.0
    first.let_go()
    await running
    queue.replace(second)
    running = await ask_and_hold(queue, second)

    def told_s() -> float:
        refused = queue.refusal()
        assert isinstance(refused, QueueFull)
        return refused.retry_after_s

    together = [told_s() for _ in range(3)]
    now_s[0] += 3.0
    later = told_s()
    many = [told_s() for _ in range(100)]
    second.let_go()
    await running

    # A request takes two seconds, and one is under way.
    assert together == pytest.approx([2.0, 4.0, 6.0])
    assert later == pytest.approx(5.0)
    assert many[-1] == pytest.approx(30.0)


async def test_a_request_that_comes_while_the_queue_drains_replaces_none(
    make_queue: MakeQueue,
) -> None:
    queue, completer, running = await held_queue(make_queue)
    waiting = ask(queue, "waiting", document="a.py")
    await let_tasks_start(waiting)
    assert not await queue.drain(timeout_s=0)
    with pytest.raises(QueueClosed):
        await queue.complete(request("newer"), deadline_s=NEVER_S, document="a.py")
    completer.let_go()

    assert await waiting == named("waiting")
    await running


async def test_one_request_that_fails_leaves_the_others_of_its_batch_answered(
    make_queue: MakeQueue,
) -> None:
    completer = ScriptedCompleter(is_held=True, poison={"bad": DataError("cannot be read")})
    queue = make_queue(completer)
    first = await ask_and_hold(queue, completer)
    batch = [ask(queue, name) for name in ("good", "bad", "fine")]
    await let_tasks_start(*batch)
    completer.let_go()
    good, bad, fine = await asyncio.gather(*batch, return_exceptions=True)

    assert (good, fine) == (named("good"), named("fine"))
    assert isinstance(bad, DataError)
    assert queue.is_alive
    assert queue.statistics().ended[Outcome.FAILED] == 1
    await first


async def test_an_error_that_no_one_expects_does_not_end_the_thread(
    make_queue: MakeQueue,
) -> None:
    queue = make_queue(ScriptedCompleter(poison={"bad": RecursionError("too deep")}))
    with pytest.raises(RecursionError):
        await ask(queue, "bad")

    assert await ask(queue, "good") == named("good")


@dies
async def test_the_death_of_the_thread_fails_everything_and_is_told(make_queue: MakeQueue) -> None:
    completer = ScriptedCompleter(is_held=True, poison={"fatal": SystemExit()})
    queue = make_queue(completer)
    running = await ask_and_hold(queue, completer, "fatal")
    waiting = ask(queue, "waiting")
    await let_tasks_start(waiting)
    completer.let_go()
    answers = await asyncio.gather(running, waiting, return_exceptions=True)

    assert [type(answer) for answer in answers] == [InferenceStopped] * 2
    assert not queue.is_alive
    assert not queue.accepts


@dies
async def test_a_dead_thread_accepts_nothing(make_queue: MakeQueue) -> None:
    queue = make_queue(ScriptedCompleter(poison={"fatal": SystemExit()}))
    with pytest.raises(InferenceStopped):
        await ask(queue, "fatal")
    with pytest.raises(InferenceStopped):
        await ask(queue, "next")


async def test_a_new_completer_answers_from_the_next_batch_on(make_queue: MakeQueue) -> None:
    old = ScriptedCompleter(is_held=True, label="old ")
    queue = make_queue(old)
    running = await ask_and_hold(queue, old)
    waiting = ask(queue, "waiting")
    await let_tasks_start(waiting)
    queue.replace(ScriptedCompleter(label="new "))
    old.let_go()

    assert await running == named("old held")
    assert await waiting == named("new waiting")


async def test_draining_answers_what_was_accepted_and_refuses_what_comes(
    make_queue: MakeQueue,
) -> None:
    queue, completer, running = await held_queue(make_queue)
    waiting = ask(queue, "waiting")
    await let_tasks_start(waiting)
    draining = asyncio.create_task(queue.drain(timeout_s=NEVER_S))
    await asyncio.wait([draining], timeout=0)
    assert not queue.accepts
    with pytest.raises(QueueClosed):
        await queue.complete(request("new"), deadline_s=NEVER_S)
    completer.let_go()

    assert await draining
    assert [await running, await waiting] == [named("held"), named("waiting")]


async def test_draining_does_not_wait_for_ever(make_queue: MakeQueue) -> None:
    queue, completer, running = await held_queue(make_queue)

    assert not await queue.drain(timeout_s=0)
    completer.let_go()
    await running


async def test_closing_fails_what_waits(make_queue: MakeQueue) -> None:
    queue, completer, running = await held_queue(make_queue)
    waiting = ask(queue, "waiting")
    await let_tasks_start(waiting)
    closing = asyncio.create_task(asyncio.to_thread(queue.close))
    with pytest.raises(QueueClosed):
        await waiting
    completer.let_go()
    await closing

    assert await running == named("held")
    assert not queue.is_alive
    assert completer.passes == [["held"]]


async def test_a_stream_gives_the_lexical_answer_first_and_then_that_of_the_model(
    make_queue: MakeQueue,
) -> None:
    queue = make_queue(ScriptedCompleter())
    answers = [answer async for answer in queue.stream(request("a"), deadline_s=NEVER_S)]

    assert answers == [named("a", used_model=False), named("a")]
    assert queue.statistics().ended[Outcome.BY_MODEL] == 1


async def test_a_stream_past_its_deadline_ends_with_the_lexical_answer(
    make_queue: MakeQueue,
) -> None:
    queue, completer, first = await held_queue(make_queue)
    answers = [answer async for answer in queue.stream(request("a"), deadline_s=0)]
    completer.let_go()
    await first

    assert answers == [named("a", used_model=False)]
    assert queue.statistics().ended[Outcome.LEXICAL] == 1


async def test_a_stream_that_is_closed_gives_its_place_back_and_costs_no_forward_pass(
    make_queue: MakeQueue,
) -> None:
    queue, completer, first = await held_queue(make_queue, capacity=2)
    stream = queue.stream(request("left"), deadline_s=NEVER_S)
    await anext(stream)
    with pytest.raises(QueueFull):
        await anext(queue.stream(request("none left"), deadline_s=NEVER_S))
    await stream.aclose()
    assert queue.statistics().unanswered == 1
    completer.let_go()
    await first

    assert completer.passes == [["held"]]
    assert queue.statistics().ended[Outcome.CANCELLED] == 1


async def test_between_batches_none_is_running(make_queue: MakeQueue) -> None:
    completer = ScriptedCompleter(is_held=True)
    queue = make_queue(completer)
    assert queue.batch_running_s == 0
    running = await ask_and_hold(queue, completer)
    assert queue.batch_running_s > 0
    completer.let_go()
    await running


@pytest.mark.parametrize(("capacity", "max_batch"), [(0, 1), (1, 0)])
async def test_a_queue_that_could_hold_nothing_is_refused(capacity: int, max_batch: int) -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        CompletionQueue(ScriptedCompleter(), capacity=capacity, max_batch=max_batch)
