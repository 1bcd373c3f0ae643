import itertools
import threading
import time

import pytest

from har_keras.clips.read_ahead import map_ahead, read_ahead


def test_reading_ahead_gives_the_same_and_passes_errors_on():
    assert list(read_ahead(range(100))) == list(range(100))

    def broken():
        yield 1
        raise OSError("gone")

    ahead = read_ahead(broken())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def test_reading_ahead_can_be_left():
    ahead = read_ahead(iter(range(10**9)))
    assert next(ahead) == 0
    ahead.close()


def test_an_iterator_is_read_ahead_and_only_so_far():
    taken = []

    def items():
        for item in itertools.count():
            taken.append(item)
            yield item

    ahead = read_ahead(items(), num_ahead=5)
    assert next(ahead) == 0
    end = time.monotonic() + 5
    while len(taken) < 6 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    assert taken == [0, 1, 2, 3, 4, 5]
    ahead.close()


def test_an_iterator_is_read_by_one_thread_and_is_not_read_on():
    threads = set()

    def items():
        for item in range(50):
            threads.add(threading.get_ident())
            yield item

    iterator = items()
    ahead = read_ahead(iterator, num_ahead=2)
    assert list(itertools.islice(ahead, 10)) == list(range(10))
    ahead.close()
    assert threads != {threading.get_ident()}
    assert len(threads) == 1
    assert next(iterator) <= 13


def test_nothing_is_nothing():
    assert list(read_ahead([])) == []
    assert list(map_ahead(abs, [])) == []


def test_results_come_in_the_order_of_the_items():
    def slowest_first(number):
        time.sleep(0.02 / (1 + number))
        return number * number

    found = list(map_ahead(slowest_first, range(20), num_threads=4))
    assert found == [number * number for number in range(20)]


def test_threads_work_at_once():
    meeting = threading.Barrier(3, timeout=10)

    def meet(number):
        meeting.wait()
        return number

    assert list(map_ahead(meet, range(3), num_threads=3)) == [0, 1, 2]


def test_few_results_wait():
    done = []
    found = map_ahead(done.append, range(1000), num_threads=2, num_ahead=3)
    next(found)
    time.sleep(0.05)
    assert len(done) <= 5
    found.close()
    assert len(done) <= 5


def test_an_error_is_raised_at_its_item():
    def invert(number):
        return 1 / number

    found = map_ahead(invert, [2, 1, 0, 4], num_threads=2)
    assert [next(found), next(found)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert list(found) == []
