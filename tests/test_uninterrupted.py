"""Sections in which signals wait: what a handler raises comes after the section, once, and no handler is lost."""

import os
import random
import signal
import socket
import threading

import pytest

from recis_core.uninterrupted import as_one, in_steps, uninterrupted


@pytest.fixture(autouse=True)
def handlers():
    """Puts back what a test's handlers replace."""
    numbers = (signal.SIGINT, signal.SIGALRM, signal.SIGUSR1, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_signal_in_a_section_is_raised_at_its_end():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the section")
    assert done


def test_sections_nest():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        done.append("after the inner one")
    assert done


def test_handlers_are_as_they_were_after_a_section():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    with uninterrupted():
        pass
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before


def test_a_handler_that_raises_nothing_runs_once_with_its_number():
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    with uninterrupted():
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert seen == []
    assert seen == [signal.SIGUSR1]


def test_a_signal_that_waits_is_written_to_the_wakeup_socket_once():
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    wakeup = signal.set_wakeup_fd(ours.fileno())
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGUSR1, before)
        ours.close()
    with theirs:
        assert theirs.recv(64) == bytes([signal.SIGUSR1])
    assert seen == [signal.SIGUSR1]


def test_each_waiting_signal_reaches_its_handler_though_the_first_raises():
    seen = []
    signal.signal(signal.SIGUSR1, lambda *_: seen.append("usr1"))
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGUSR1)
    assert seen == ["usr1"]


def test_an_error_of_the_section_is_the_context_of_the_interrupt():
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        raise MemoryError("of the work")
    assert isinstance(caught.value.__context__, MemoryError)


def test_a_handler_set_inside_a_section_stays():
    mine = lambda *_: None  # noqa: E731
    with uninterrupted():
        signal.signal(signal.SIGINT, mine)
    assert signal.getsignal(signal.SIGINT) is mine


def test_another_thread_keeps_nothing_back():
    """It neither waits nor replaces the main thread's handlers."""
    seen = []

    def work():
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_a_section_that_never_began_keeps_nothing_back():
    """An exception may come after a section opened and before its body; then nobody ends it."""
    uninterrupted().__enter__()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("instants", [300])
def test_at_random_instants_a_section_is_whole_and_the_interrupt_is_raised(instants):
    """A timer in real time: however the signal falls, both halves of the work are done or none is."""

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    seed, one, other, raised = random.Random(3), 0, 0, 0
    for _ in range(instants):
        try:
            signal.setitimer(signal.ITIMER_REAL, seed.uniform(1e-5, 3e-4))
            while True:
                with uninterrupted():
                    one += 1
                    os.getpid()
                    other += 1
        except KeyboardInterrupt:
            raised += 1
        assert one == other
    assert raised == instants
    assert signal.getsignal(signal.SIGALRM) is stop


def test_a_function_as_one_section():
    done = []

    @as_one
    def work(value):
        signal.raise_signal(signal.SIGINT)
        done.append(value)

    with pytest.raises(KeyboardInterrupt):
        work(7)
    assert done == [7]


def test_a_wait_in_steps_gives_the_first_true_result_and_lets_signals_between():
    results, waited = [None, 0, "ready"], []

    def wait(seconds):
        waited.append(seconds)
        return results[len(waited) - 1]

    assert in_steps(wait) == "ready"
    assert len(waited) == 3

    def interrupted(seconds):
        signal.raise_signal(signal.SIGINT)
        waited.append(seconds)

    with pytest.raises(KeyboardInterrupt):
        in_steps(interrupted)
    assert len(waited) == 4  # that step came to its end


@pytest.mark.parametrize("instants", [500])
def test_interrupts_of_waits_for_a_thread_come_as_they_are(instants):
    """Of Condition.wait_for alone some come as RuntimeError, where the lock is taken again."""

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    changed, seed, over = threading.Condition(), random.Random(5), threading.Event()

    def waking():
        while not over.is_set():
            with changed:
                changed.notify_all()

    def some(seconds):
        with changed:
            changed.wait(seconds)

    thread = threading.Thread(target=waking)
    thread.start()
    try:
        for _ in range(instants):
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012, the timer may end before the wait begins
                signal.setitimer(signal.ITIMER_REAL, seed.uniform(1e-5, 2e-4))
                in_steps(some)
    finally:
        over.set()
        thread.join()
