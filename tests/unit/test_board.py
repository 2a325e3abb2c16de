"""What processes share: two open boards of one file behave as two processes do, as their locks belong to the file."""

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from fledgling.errors import ConfigError
from fledgling.locks import LOCKS
from fledgling.teacher.board import BOOT, NEXT_REQUEST, WINDOW, Board, board_path
from fledgling.teacher.limiter import Pace, Pause, Window


def test_numbers_are_shared_and_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOCKS, str(tmp_path))
    path = board_path("host", "deployment")
    assert tmp_path in path.parents
    with Board(path) as one, Board(path) as two:
        one[NEXT_REQUEST] = 7.5
        assert two[NEXT_REQUEST] == 7.5
    with Board(path) as later:
        assert later[NEXT_REQUEST] == 7.5
    assert board_path("host", "other") != path


def test_a_board_of_before_the_machine_started_is_wiped(tmp_path: Path) -> None:
    path = tmp_path / "a.board"
    with Board(path) as board:
        board[NEXT_REQUEST] = 1e12
        board[BOOT] = 17
    with Board(path) as board:
        assert board[NEXT_REQUEST] == 0


def test_a_damaged_board_is_no_reason_to_fail(tmp_path: Path) -> None:
    path = tmp_path / "a.board"
    for content in (b"", b"x" * 9, b"\xff" * 64, b"y" * 5000):
        path.write_bytes(content)
        with Board(path) as board:
            assert Pause(board=board, most_s=120).wait_s() == 0
            assert Pace(60, board=board).take() < 1


def test_seats_exclude_each_other_and_end_with_their_board(tmp_path: Path) -> None:
    path = tmp_path / "a.board"
    with Board(path) as one:
        with Board(path) as two:
            assert (one.sit(2), two.sit(2), one.sit(2)) == (0, 1, None)
            one.stand(0)
            assert two.sit(2) == 0
        assert one.sit(1) == 0, "the kernel frees what a process held"


def test_who_comes_first_starts_with_a_whole_window_and_who_joins_does_not_widen_it(tmp_path: Path) -> None:
    path = tmp_path / "a.board"
    with Board(path) as one:
        assert one.alone
        window = Window(16, board=one)
        window.refused(window.clock())
        assert window.limit == 8
        with Board(path) as two:
            assert not two.alone
            assert Window(16, board=two).limit == 8
    with Board(path) as later:
        assert later.alone
        assert Window(16, board=later).limit == 16
        assert later[WINDOW] == 16


def test_a_pause_is_shared_and_never_longer_than_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "a.board"
    with Board(path) as one, Board(path) as two:
        Pause(board=one, most_s=120).begin(1e9)
        assert 119 < Pause(board=two, most_s=120).wait_s() <= 120


def test_two_paces_keep_one(tmp_path: Path) -> None:
    now = time.monotonic()
    with Board(tmp_path / "a.board") as one, Board(tmp_path / "a.board") as two:
        paces = [Pace(60, lambda: now, board) for board in (one, two)]
        assert [paces[number % 2].take() for number in range(4)] == pytest.approx([0, 1, 2, 3])
        paces[0].correct(-2)
        assert paces[1].take() == pytest.approx(2)


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "fcntl", none)
    with pytest.raises(ConfigError, match="cannot lock files"):
        Board(tmp_path / "a.board")
