import os
import signal
import threading
import time
from collections.abc import Sequence
from functools import partial

import pytest

from vae_runner.errors import Interrupted
from vae_runner.runtime import interruption
from vae_runner.runtime.interruption import StopRequest, signals_raise


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_answered_where_it_comes(
    number: signal.Signals, status: int, request: pytest.FixtureRequest
) -> None:
    # These tests may run under nohup, with which a run ignores SIGHUP too.
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))

    def work_on() -> None:
        with StopRequest().handlers_installed():
            os.kill(os.getpid(), number)
            pytest.fail("it was not")

    with pytest.raises(Interrupted) as interrupt:
        work_on()
    assert interrupt.value.status == status


def test_a_signal_that_python_drops_is_answered_later() -> None:
    class Dropping:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def finish() -> None:
        with StopRequest().handlers_installed():
            Dropping()
            reached.append(1)

    def go_on() -> None:
        stop = StopRequest()
        with stop.handlers_installed():
            Dropping()
            with stop.shielded():
                reached.append(2)
            reached.append(3)

    reached: list[int] = []
    with signals_raise():  # says nothing of it
        for work_ in (finish, go_on):
            with pytest.raises(Interrupted):
                work_()
    assert reached == [1, 2]


def test_with_nohup_a_closed_terminal_is_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest().handlers_installed():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def work(signals: Sequence[signal.Signals], reached: list[int]) -> None:
    """Something that is to be finished, in which these signals come, one after the other."""
    stop = StopRequest()
    with stop.handlers_installed(), stop.shielded():
        for count, number in enumerate(signals, 1):
            os.kill(os.getpid(), number)
            reached.append(count)


def test_a_first_signal_waits_for_the_end_of_what_must_be_finished() -> None:
    reached: list[int] = []
    with pytest.raises(Interrupted):
        work([signal.SIGINT], reached)
    assert reached == [1]


def test_a_second_ctrl_c_does_not_wait_and_a_second_sigterm_changes_nothing() -> None:
    reached: list[int] = []
    with pytest.raises(Interrupted):
        work([signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT], reached)
    assert reached == [1, 2]


def test_handlers_are_put_back_and_other_threads_leave_them_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest().handlers_installed():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    def elsewhere() -> None:
        with StopRequest().handlers_installed():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before[1]]


def test_another_source_is_asked_until_it_says_so_and_counts_as_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SECONDS_BETWEEN_POLLS", 0.01)
    answers = iter([None, None, signal.SIGINT])

    def work_on() -> None:
        with StopRequest(lambda: next(answers)).handlers_installed():
            time.sleep(10)
            pytest.fail("it was not answered")

    with pytest.raises(Interrupted) as answered:
        work_on()
    assert answered.value.signal_number == signal.SIGTERM


def test_machines_answer_the_signal_of_any_of_them_together_and_none_is_lost_while_they_agree() -> None:
    others = 0

    def all_reduce_max(value: float) -> float:
        if others == -1:
            os.kill(os.getpid(), signal.SIGTERM)  # while it waits for them
        return max(value, others)

    def agree_while_a_signal_comes() -> None:
        nonlocal others
        with stop.handlers_installed(), stop.synchronized(all_reduce_max):
            with stop.shielded():
                pass
            others = -1
            with stop.shielded():
                pass
            answering.append("the next time")
            with stop.shielded():
                pass

    def agree_after_one() -> None:
        nonlocal others
        with stop.handlers_installed(), stop.synchronized(all_reduce_max):
            os.kill(os.getpid(), signal.SIGINT)  # not answered here, where the others do not know of it
            others = signal.SIGTERM
            answering.append("together")
            with stop.shielded():
                pass

    answering: list[str] = []
    for work_on in (agree_while_a_signal_comes, agree_after_one):
        stop = StopRequest()
        with pytest.raises(Interrupted) as answered:
            work_on()
        assert answered.value.signal_number == signal.SIGTERM
    assert answering == ["the next time", "together"]
