"""Many requests at once, one model: a bounded queue, one thread that answers it in batches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from seqmlm.errors import ConfigError
from seqmlm_domains.code.serving.queue_statistics import Outcome, QueueStatistics

_LAST_BATCH_S: Final = 5.0
_SMOOTHING: Final = 0.1
_LONGEST_RETRY_S: Final = 30.0

if TYPE_CHECKING:
    from seqmlm_domains.code.completion.completer import Completer
    from seqmlm_domains.code.completion.completion import CompletionRequest, CompletionResult


class QueueRefusal(Exception):
    """The queue does not answer a request; the subclasses say why."""


class QueueFull(QueueRefusal):
    """As many requests as the queue may hold are unanswered.

    Args:
        retry_after_s: estimate of when those of now, and those refused before, will be answered,
            seconds.
    """

    def __init__(self, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"The queue is full; try again in {retry_after_s:.1f} s.")


class QueueClosed(QueueRefusal):
    """The queue drains or is closed: it accepts nothing more."""


class Superseded(QueueRefusal):
    """A newer request of the same document came before this one had its turn."""


class InferenceStopped(QueueRefusal):
    """The inference thread has ended by an error of ours; the process must be restarted."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Accepted:
    """A request with a place in the queue."""

    request: CompletionRequest
    document: str | None
    answer: Future[CompletionResult] = field(default_factory=Future)
    accepted_at: float = field(default_factory=time.monotonic)
    outcome: Outcome = Outcome.BY_MODEL  # if nothing goes wrong


class CompletionQueue:
    """Answers requests of one asyncio event loop on one inference thread.

    The thread takes all that waits, up to ``max_batch``, oldest first, and runs one forward pass
    for it; meanwhile the next batch gathers. A request whose caller has gone (its await was
    cancelled, its deadline has passed, a newer request of its document came) leaves the queue at
    once and costs no forward pass, unless its batch has begun.

    Lexical answers run on a second thread, so that they never wait behind a forward pass: torch
    lets go of the interpreter lock while it computes. ``Completer.complete_lexically`` is
    therefore called while ``complete_batch`` runs, and must bear that.

    Args:
        completer: answers; :meth:`replace` exchanges it.
        capacity: most requests that are unanswered at a time, those in the running batch included.
        max_batch: most requests of one forward pass.

    Raises:
        ConfigError: ``capacity`` or ``max_batch`` is less than 1.
    """

    def __init__(self, completer: Completer, *, capacity: int, max_batch: int) -> None:
        for name, value in (("capacity", capacity), ("max_batch", max_batch)):
            if value < 1:
                raise ConfigError(f"{name} = {value}: must be at least 1.")
        self._completer = completer
        self._capacity, self._max_batch = capacity, max_batch
        # Guards all that follows; the inference thread waits on it for work.
        self._state = threading.Condition()
        self._unanswered: set[_Accepted] = set()
        self._waiting: dict[_Accepted, None] = {}  # a set that keeps the order of arrival
        self._running: list[_Accepted] = []
        self._statistics = QueueStatistics()
        self._accepts, self._is_closed, self._has_ended = True, False, False
        self._batch_began_at: float | None = None
        self._request_s = 0.0  # moving average of the time that a batch takes per request
        self._last_turn_at = 0.0  # when the request refused last may come again
        self._idle = asyncio.Event()
        self._idle.set()
        self._lexical = ThreadPoolExecutor(1, thread_name_prefix="seqmlm-lexical")
        self._inference = threading.Thread(target=self._serve, name="seqmlm-inference", daemon=True)
        self._inference.start()

    async def complete(
        self, request: CompletionRequest, *, deadline_s: float, document: str | None = None
    ) -> CompletionResult:
        """Return the model's answer, or the lexical one if that of the model takes too long.

        Args:
            request: what to complete.
            deadline_s: seconds from now after which the lexical answer is computed (a few ms).
            document: a name of the text; a newer request of the same name takes the place of one
                that still waits. None: requests do not replace one another.

        Raises:
            QueueFull: at once, if there is no place.
            QueueClosed: the queue drains or is closed.
            Superseded: a newer request of ``document`` came.
            InferenceStopped: the inference thread has ended.
            DataError, ConfigError: the completer refuses the request.
        """
        with self._place(request, document=document) as accepted:
            result = await self._answer_of_model(accepted, deadline_s=deadline_s)
            if result is None:
                accepted.outcome = Outcome.LEXICAL
                self._withdraw(accepted)
                return await self._complete_lexically(request)
            return result

    async def stream(
        self, request: CompletionRequest, *, deadline_s: float
    ) -> AsyncGenerator[CompletionResult]:
        """Yield the lexical answer as soon as there is one, then the model's if it is in time.

        Arguments and errors are those of :meth:`complete`. The place in the queue is taken, or
        :class:`QueueFull` raised, when the first answer is asked for; ``aclose()`` gives it back.
        """
        with self._place(request, document=None) as accepted:
            yield await self._complete_lexically(request)
            remaining_s = accepted.accepted_at + deadline_s - time.monotonic()
            result = await self._answer_of_model(accepted, deadline_s=max(remaining_s, 0.0))
            if result is None:
                accepted.outcome = Outcome.LEXICAL
        if result is not None:
            yield result

    def refusal(self, *, on_their_way: int = 0) -> QueueRefusal | None:
        """Return what :meth:`complete` would raise now: cheaper than reading a request first.

        Args:
            on_their_way: requests that have been let through, those in the queue included.
        """
        with self._state:
            return self._refusal(taken=max(on_their_way, len(self._unanswered)))

    @property
    def completer(self) -> Completer:
        """What the next batch is answered by."""
        return self._completer

    def replace(self, completer: Completer) -> None:
        """Answer with another completer from the next batch on; the running batch ends on its own.

        Cost: none; load the new completer before, in another thread than the event loop's.
        """
        with self._state:
            self._completer = completer

    async def drain(self, *, timeout_s: float) -> bool:
        """Accept nothing more and wait for what was accepted to be answered.

        Returns:
            Whether everything was answered within ``timeout_s`` seconds.
        """
        with self._state:
            self._accepts = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Fail what still waits with :class:`QueueClosed` and end both threads.

        Blocks until the running batch has ended, but for five seconds at most: past that, its
        thread ends with the process.
        """
        with self._state:
            self._accepts, self._is_closed = False, True
            abandoned = [*self._waiting]
            self._waiting.clear()
            self._state.notify_all()
        _fail(abandoned, QueueClosed("The completion queue is closed."))
        self._lexical.shutdown(wait=False, cancel_futures=True)
        self._inference.join(_LAST_BATCH_S)

    @property
    def is_alive(self) -> bool:
        """Whether the inference thread runs: False after an error of ours or :meth:`close`."""
        return not self._has_ended

    @property
    def accepts(self) -> bool:
        """Whether requests are accepted: False once the queue drains, is closed or has died."""
        return self._accepts and self.is_alive

    @property
    def batch_running_s(self) -> float:
        """Seconds that the running batch has taken so far, 0 between batches."""
        began_at = self._batch_began_at
        return 0.0 if began_at is None else time.monotonic() - began_at

    def statistics(self) -> QueueStatistics:
        """Return a copy of the counts."""
        with self._state:
            return replace(
                self._statistics,
                ended=dict(self._statistics.ended),
                unanswered=len(self._unanswered),
                waiting=len(self._waiting),
                latency=self._statistics.latency.copy(),
            )

    # What follows runs on the event loop.

    @contextmanager
    def _place(self, request: CompletionRequest, *, document: str | None) -> Iterator[_Accepted]:
        """A place in the queue for the length of the block, given back however the block ends."""
        accepted = _Accepted(request=request, document=document)
        self._accept(accepted)
        outcome = Outcome.FAILED
        try:
            yield accepted
            outcome = accepted.outcome
        except (asyncio.CancelledError, GeneratorExit):
            outcome = Outcome.CANCELLED
            raise
        except Superseded:
            outcome = Outcome.SUPERSEDED
            raise
        finally:
            self._give_back(accepted, outcome)

    def _accept(self, accepted: _Accepted) -> None:
        with self._state:
            older = self._waiting_of(accepted.document)
            refusal = self._refusal(taken=len(self._unanswered) - len(older))
            if refusal is not None:
                raise refusal
            for superseded in older:
                del self._waiting[superseded]
                self._unanswered.discard(superseded)
            self._statistics.accepted += 1
            self._unanswered.add(accepted)
            self._waiting[accepted] = None
            self._idle.clear()
            self._state.notify_all()
        _fail(older, Superseded(f"A newer request of {accepted.document} came."))

    def _refusal(self, *, taken: int) -> QueueRefusal | None:
        if not self._accepts:
            return QueueClosed("The completion queue accepts no more requests.")
        if not self.is_alive:
            return InferenceStopped("The inference thread has ended.")
        if taken >= self._capacity:
            self._statistics.rejected += 1
            return QueueFull(retry_after_s=self._next_turn_s(taken))
        return None

    def _next_turn_s(self, taken: int) -> float:
        """Seconds until the turn of a request that is refused now.

        Each gets a turn of its own, behind those that were refused before: told the same moment,
        they would come back together and be refused together.
        """
        now = time.monotonic()
        turn_at = max(self._last_turn_at + self._request_s, now + taken * self._request_s)
        self._last_turn_at = min(turn_at, now + _LONGEST_RETRY_S)
        return self._last_turn_at - now

    def _waiting_of(self, document: str | None) -> list[_Accepted]:
        if document is None:
            return []
        return [waiting for waiting in self._waiting if waiting.document == document]

    def _withdraw(self, accepted: _Accepted) -> None:
        """Save the forward pass of a request that no one waits for any more."""
        with self._state:
            self._waiting.pop(accepted, None)

    def _give_back(self, accepted: _Accepted, outcome: Outcome) -> None:
        self._withdraw(accepted)
        with self._state:
            latency_s = time.monotonic() - accepted.accepted_at
            self._statistics.end(outcome, latency_s=latency_s)
            self._unanswered.discard(accepted)
            if not self._unanswered:
                self._idle.set()

    async def _answer_of_model(
        self, accepted: _Accepted, *, deadline_s: float
    ) -> CompletionResult | None:
        """The model's answer; None if the deadline comes before it."""
        answer = asyncio.wrap_future(accepted.answer)
        try:
            await asyncio.wait([answer], timeout=deadline_s)
            return answer.result() if answer.done() else None
        finally:
            answer.cancel()  # else a later failure of the batch would be logged as unheard

    async def _complete_lexically(self, request: CompletionRequest) -> CompletionResult:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._lexical, self._completer.complete_lexically, request
        )

    # What follows runs on the inference thread.

    def _serve(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._answer(batch)
        finally:
            with self._state:
                self._has_ended = True
                abandoned = [*self._running, *self._waiting]
                self._waiting.clear()
            _fail(abandoned, InferenceStopped("The inference thread has ended."))

    def _next_batch(self) -> list[_Accepted] | None:
        """Wait for requests and take the oldest; None once the queue is closed."""
        with self._state:
            self._running, self._batch_began_at = [], None
            self._state.wait_for(lambda: self._waiting or self._is_closed)
            if self._is_closed:
                return None
            for waiting in list(self._waiting)[: self._max_batch]:
                del self._waiting[waiting]
                if waiting.answer.set_running_or_notify_cancel():
                    self._running.append(waiting)
            self._batch_began_at = time.monotonic()
            return self._running

    def _answer(self, batch: Sequence[_Accepted]) -> None:
        completer = self._completer
        try:
            results = completer.complete_batch([accepted.request for accepted in batch])
        except Exception as error:
            # Whatever one request has met with reaches its caller and must not end the thread:
            # the others of its batch are answered one by one.
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for accepted in batch:
                    self._answer([accepted])
            return
        for accepted, result in zip(batch, results, strict=True):
            accepted.answer.set_result(result)
        self._count_batch(len(batch))

    def _count_batch(self, size: int) -> None:
        with self._state:
            self._statistics.batches += 1
            self._statistics.batched += size
            if self._batch_began_at is not None:
                request_s = (time.monotonic() - self._batch_began_at) / size
                is_first = self._statistics.batches == 1
                weight = 1.0 if is_first else _SMOOTHING
                self._request_s += weight * (request_s - self._request_s)


def _fail(requests: Sequence[_Accepted], error: Exception) -> None:
    for accepted in requests:
        answer = accepted.answer
        if answer.running() or (not answer.done() and answer.set_running_or_notify_cancel()):
            answer.set_exception(error)
