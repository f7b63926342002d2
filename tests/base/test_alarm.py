"""The end of the time: a signal where this process may leave alone, a clock to look at elsewhere."""
import contextlib
import math
import signal
import threading
import time

import pytest

from mcvqa.base.budget import Alarm, TimeUp, time_is_up, working_alone


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")


def test_whoever_swallows_it_is_alarmed_again():
    swallowed = 0
    with pytest.raises(TimeUp), Alarm(0.02, again=0.02):
        for _ in range(3):
            with contextlib.suppress(BaseException):
                time.sleep(5)
            swallowed += 1
        time.sleep(5)
    assert swallowed == 3
    time.sleep(0.05)  # and not after its end


def test_its_end_is_disarmed_though_it_rings_there(monkeypatch):
    plain, ringing = signal.setitimer, iter([False, True])

    def setitimer(*given):
        if next(ringing, False):
            raise TimeUp
        return plain(*given)

    monkeypatch.setattr(signal, "setitimer", setitimer)
    with pytest.raises(TimeUp), Alarm(0.05, again=0.05):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0) and not time_is_up()


def test_an_alarm_within_another_leaves_that_one_armed():
    with pytest.raises(TimeUp), Alarm(0.1):
        with Alarm(50):
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.1, "the earlier end holds"
        time.sleep(5)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_where_others_wait_there_is_a_clock_and_no_signal(two_processes):
    before = signal.getsignal(signal.SIGALRM)
    with Alarm(0.01):
        assert signal.getsignal(signal.SIGALRM) is before
        time.sleep(0.03)
        assert time_is_up()
        with pytest.raises(TimeUp), working_alone():
            time.sleep(5)
        with Alarm(math.inf):
            assert time_is_up()
    assert not time_is_up()


def test_in_another_thread_there_is_a_clock():
    seen = []

    def work():
        with Alarm(0.0):
            seen.append(time_is_up())
        seen.append(time_is_up())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, False]
