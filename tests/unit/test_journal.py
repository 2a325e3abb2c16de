"""The journal: what was announced survives crashes, damage and other processes."""

import errno
import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fledgling.errors import ConfigError, Unavailable
from fledgling.files import digest
from fledgling.journal import MARGIN_BYTES, Journal
from fledgling.journal.line import decode, encode, is_whole


def key(number: int) -> str:
    return digest(number)


def test_a_record_comes_back_in_this_and_the_next_process(tmp_path: Path) -> None:
    record = {"text": "é\u2028\x85 \ud800", "n": 1}
    with Journal(tmp_path, "x") as journal:
        assert journal.get(key(1)) is None
        journal.put(key(1), record)
        assert journal.get(key(1)) == record
    with Journal(tmp_path, "x") as journal:
        assert journal.get(key(1)) == record
        assert (key(1) in journal, key(2) in journal, len(journal)) == (True, False, 1)


def test_the_last_record_of_a_key_counts(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as journal:
        journal.put_many([(key(1), {"n": 1}), (key(2), {"n": 2}), (key(1), {"n": 3})])
        assert (journal.get(key(1)), journal.get(key(2))) == ({"n": 3}, {"n": 2})
    with Journal(tmp_path, "x") as journal:
        assert journal.get(key(1)) == {"n": 3}


def test_a_long_record_is_read_whole(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as journal:
        journal.put(key(1), {"text": "x" * 3_000_000})
        journal.put(key(2), {"n": 2})
        assert len(journal.get(key(1))["text"]) == 3_000_000  # type: ignore[index]


def test_a_key_is_a_digest() -> None:
    with pytest.raises(ValueError, match="sha256"):
        encode("row-1", "result", {})


def test_intents_and_failures_are_no_results(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as journal:
        journal.intent(key(1))
        journal.append("failure", [(key(1), {"billed": "no"})])
        assert key(1) not in journal
    with Journal(tmp_path, "x") as journal:
        assert key(1) not in journal


def test_f13_a_torn_tail_is_set_aside_and_the_rest_used(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as journal:
        journal.put_many([(key(1), {"n": 1}), (key(2), {"n": 2})])
    path = tmp_path / "x.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with Journal(tmp_path, "x") as journal:
        assert (journal.get(key(1)), journal.get(key(2))) == ({"n": 1}, None)
        journal.put(key(2), {"n": 3})
    with Journal(tmp_path, "x") as journal:
        assert journal.get(key(2)) == {"n": 3}
        assert journal.damaged == 0
    second = whole.splitlines(keepends=True)[1]
    assert (tmp_path / "x.torn").read_bytes() == second[:-9] + b"\n"


@pytest.mark.parametrize("place", [3, 12, 40, 100, 130, 170])
def test_f14_a_flipped_byte_costs_one_line(tmp_path: Path, place: int) -> None:
    with Journal(tmp_path, "x") as journal:
        journal.put_many([(key(n), {"n": n, "text": "some text of this row"}) for n in range(5)])
    path = tmp_path / "x.jsonl"
    data = bytearray(path.read_bytes())
    start = len(b"".join(data.splitlines(keepends=True)[:2]))
    data[start + place] ^= 4
    path.write_bytes(data)
    for expected in (1, 0):
        with Journal(tmp_path, "x") as journal:
            assert [n for n in range(5) if key(n) in journal] == [0, 1, 3, 4]
            assert journal.damaged == expected
    assert len((tmp_path / "x.bad").read_bytes().splitlines()) == 1


def test_f14_damage_after_opening_is_found_when_read(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as journal:
        journal.put(key(1), {"n": 1})
        with open(tmp_path / "x.jsonl", "r+b") as stream:
            stream.seek(150)
            stream.write(b"?")
        assert journal.get(key(1)) is None
        assert key(1) not in journal


def test_other_journals_of_the_same_file_see_and_exclude_each_other(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as one, Journal(tmp_path, "x") as two:
        assert one.claim(key(1))
        assert not two.claim(key(1))
        assert not one.claim(key(1)), "one claim a key"
        assert two.claim(key(2))
        one.put(key(1), {"n": 1})
        one.release(key(1))
        assert two.get(key(1)) is None
        assert two.claim(key(1))
        assert two.get(key(1)) == {"n": 1}, "a claim is up to date"


def _claim_and_die(folder: Path) -> None:
    journal = Journal(folder, "x").__enter__()
    assert journal.claim(key(1))
    os._exit(9)


def test_f44_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    with Journal(tmp_path, "x") as journal:
        assert journal.claim(key(1))


def _write_many(folder: Path, first: int) -> None:
    with Journal(folder, "x") as journal:
        for number in range(first, first + 150):
            journal.append("result", [(key(number), {"n": number, "text": "é" * (number % 700)})])


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(tmp_path, first)) for first in (0, 150, 300)]
    for process in processes:
        process.start()
    with Journal(tmp_path, "x") as journal:
        while any(process.is_alive() for process in processes):
            journal.compact()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with Journal(tmp_path, "x") as journal:
        assert [journal.get(key(n))["n"] for n in range(450)] == list(range(450))  # type: ignore[index]
        assert journal.damaged == 0
    assert not (tmp_path / "x.bad").exists()


def test_compact_keeps_results_and_what_may_have_been_billed(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as journal, Journal(tmp_path, "x") as other:
        journal.intent(key(1))
        journal.put(key(1), {"n": 1})
        journal.put(key(1), {"n": 2})
        journal.intent(key(2))
        journal.append("failure", [(key(2), {"billed": "no"})])
        journal.intent(key(3))
        journal.append("failure", [(key(3), {"billed": "maybe"})])
        journal.intent(key(4))
        other.refresh()
        journal.compact()
        kept = [(entry.key, entry.kind) for entry in journal.entries()]
        assert kept == [(key(1), "result"), (key(3), "failure"), (key(4), "intent")]
        other.put(key(5), {"n": 5})
        journal.refresh()
        assert (journal.get(key(1)), journal.get(key(5)), other.get(key(1))) == ({"n": 2}, {"n": 5}, {"n": 2})


def test_f12_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=f"{tmp_path}/file.* user {os.getuid()}"), Journal(tmp_path / "file", "x"):
        pass


def test_f10_too_little_room_is_found_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path, "x") as journal:
        journal.require_space(1000)
        real = os.statvfs(tmp_path)
        full = os.statvfs_result([real.f_bsize, 1, real.f_blocks, 10, 10, *list(real)[5:]])
        monkeypatch.setattr(os, "statvfs", lambda path: full)
        with pytest.raises(Unavailable, match=f"free {1000 + MARGIN_BYTES - 10:,} bytes"):
            journal.require_space(1000)


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EIO, "the disk failed")])
def test_f10_a_write_that_fails_half_way_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    write = os.write

    def short(fd: int, data: Any) -> int:
        if len(data) < 100:
            raise OSError(number, os.strerror(number))
        return write(fd, data[:-60])

    with Journal(tmp_path, "x") as journal:
        journal.put(key(1), {"n": 1})
        before = journal.path.read_bytes()
        monkeypatch.setattr(os, "write", short)
        with pytest.raises(Unavailable, match=words):
            journal.put(key(2), {"n": 2})
        monkeypatch.undo()
        assert journal.path.read_bytes() == before
        journal.put(key(2), {"n": 3})
        assert journal.get(key(2)) == {"n": 3}


class Disk:
    """Records what reaches the disk for certain, by watching write, truncate and fsync of one file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: list[tuple[bytes, bytes, int]] = []  # durable, in the page cache, announced
        self.durable = b""
        self.announced = 0
        write, fsync = os.write, os.fsync
        self.path: Path | None = None

        def watched_write(fd: int, data: Any) -> int:
            count = write(fd, data)
            self.note()
            return count

        def watched_fsync(fd: int) -> None:
            fsync(fd)
            if self.path and os.path.samestat(os.fstat(fd), os.stat(self.path)):
                self.durable = self.path.read_bytes()
            self.note()

        monkeypatch.setattr(os, "write", watched_write)
        monkeypatch.setattr(os, "fsync", watched_fsync)

    def note(self) -> None:
        if self.path:
            self.states.append((self.durable, self.path.read_bytes(), self.announced))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.integers(1, 4), min_size=1, max_size=5), lots=st.randoms(use_true_random=False))
def test_f9_after_a_power_loss_every_announced_record_is_there(
    tmp_path_factory: pytest.TempPathFactory, batches: list[int], lots: Any
) -> None:
    folder = tmp_path_factory.mktemp("disk")
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = Disk(monkeypatch)
        with Journal(folder, "x") as journal:
            disk.path = journal.path
            for size in batches:
                first = disk.announced
                journal.put_many([(key(first + n), {"n": first + n}) for n in range(size)])
                disk.announced += size
                disk.note()
    for durable, cached, announced in disk.states:
        assert cached.startswith(durable)
        extra = cached[len(durable) :]
        lost = extra[: lots.randint(0, len(extra))]
        for tail in (b"", extra, lost, lost + b"\0" * (len(extra) - len(lost))):
            crashed = folder / "crashed"
            crashed.mkdir(exist_ok=True)
            (crashed / "x.jsonl").write_bytes(durable + tail)
            with Journal(crashed, "x") as journal:
                assert [n for n in range(announced) if journal.get(key(n)) != {"n": n}] == []


def test_every_line_is_json_with_a_checksum(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as journal:
        journal.intent(key(1), {"host": "h"})
        journal.put(key(1), {"n": 1})
    lines = (tmp_path / "x.jsonl").read_bytes().splitlines()
    assert [list(json.loads(line)) for line in lines] == [["sum", "key", "kind", "at", "record"]] * 2
    assert all(is_whole(line) for line in lines)
    assert not is_whole(lines[0].replace(b"intent", b"result"))
    assert decode(lines[1]).at.endswith("+00:00")


def _command(folder: Path, name: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "fledgling", "journal", name, "--journal", str(folder)],
        capture_output=True,
        text=True,
    )


def test_the_command_lists_verifies_and_compacts(tmp_path: Path) -> None:
    body = json.dumps(
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1200, "completion_tokens": 5}}
    )
    with Journal(tmp_path, "teacher") as journal:
        journal.intent(key(1))
        journal.put(key(1), {"status": 200, "body": body})
        journal.intent(key(2))
    listed = _command(tmp_path, "list").stdout
    assert "1 finished requests" in listed
    assert "1 calls without a reply that may have been billed" in listed
    assert "1,200 prompt and 5 completion tokens" in listed
    assert _command(tmp_path, "verify").returncode == 0
    assert _command(tmp_path, "compact").returncode == 0
    assert _command(tmp_path, "list").stdout.count("1 calls without") == 1
    (tmp_path / "teacher.jsonl").write_bytes((tmp_path / "teacher.jsonl").read_bytes().replace(b"1200", b"1201"))
    assert _command(tmp_path, "verify").returncode == 5
    assert _command(tmp_path / "nowhere", "list").returncode == 3


def _reply(text: str) -> str:
    return json.dumps({"choices": [{"message": {"content": text}}]})


def test_the_command_touches_journals_only(tmp_path: Path) -> None:
    """looks.jsonl, the ledger of verdicts, lies beside them."""
    ledger = b'{"test":"t","inputs":"a"}\n{"test":"t","inputs":"b"}\n'
    (tmp_path / "looks.jsonl").write_bytes(ledger)
    assert _command(tmp_path, "verify").returncode == 3, "no journal at all"
    with Journal(tmp_path, "teacher") as journal:
        journal.put(key(1), {"status": 200, "body": _reply("x")})
    with Journal(tmp_path, "slm"):
        pass
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "nowhere.jsonl").symlink_to("missing")
    os.mkfifo(tmp_path / "pipe.jsonl")
    verified = _command(tmp_path, "verify")
    assert (verified.returncode, "looks" in verified.stdout) == (0, False)
    assert "1 of 1 lines" in verified.stdout
    assert "0 of 0 lines" in verified.stdout
    assert _command(tmp_path, "compact").returncode == 0
    assert (tmp_path / "looks.jsonl").read_bytes() == ledger


def test_verify_names_damage_rightly(tmp_path: Path) -> None:
    with Journal(tmp_path, "teacher") as journal:
        journal.put_many([(key(n), {"n": n}) for n in range(4)])
    path = tmp_path / "teacher.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b'"n":1', b'"n":7') + b"hello\n" + lines[2] + lines[3][:-9])
    verified = _command(tmp_path, "verify")
    assert verified.returncode == 5
    assert [line.rpartition(": ")[2].split(" at ")[0] for line in verified.stdout.splitlines()[:3]] == [
        "damaged line",
        "line that no journal wrote",
        "unfinished last line (a process was killed while it wrote)",
    ]
    with Journal(tmp_path, "teacher"):
        pass
    assert _command(tmp_path, "verify").returncode == 0, "what was set aside is no damage"


def _take_back(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "fledgling", "journal", "take-back", "--journal", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_row_an_outcome_or_a_run_is_taken_back_and_the_rest_stays(tmp_path: Path) -> None:
    with Journal(tmp_path, "teacher") as journal:
        for number, text in enumerate(["x", "", "x", "", "x"]):
            record = {"status": 200, "body": _reply(text), "run": f"run-{number // 3}"}
            journal.put(key(number), record)
    predictions = tmp_path / "predictions.txt"
    predictions.write_text("".join(json.dumps({"id": f"r{n}", "request": key(n)}) + "\n" for n in range(5)))

    def left() -> list[int]:
        with Journal(tmp_path, "teacher") as journal:
            return [number for number in range(5) if key(number) in journal]

    assert "1 results taken back" in _take_back(tmp_path, "--row", "r0", "--predictions", str(predictions)).stdout
    assert left() == [1, 2, 3, 4]
    assert "1 results taken back" in _take_back(tmp_path, "--outcome", "empty", "--run", "run-1").stdout
    assert left() == [1, 2, 4]
    assert "1 results taken back" in _take_back(tmp_path, "--run", "run-1").stdout
    assert left() == [1, 2]
    assert _command(tmp_path, "compact").returncode == 0
    assert left() == [1, 2]
    assert "3 results were taken back" in _command(tmp_path, "list").stdout
    assert "1 results taken back" in _take_back(tmp_path, "--outcome", "empty").stdout
    assert left() == [2]
    assert "0 results taken back" in (nothing := _take_back(tmp_path, "--outcome", "empty").stdout)
    assert "delete" not in nothing
    for wrong in ([], ["--outcome", "emty"], ["--row", "r9", "--predictions", str(predictions)]):
        assert _take_back(tmp_path, *wrong).returncode == 2
    assert left() == [2]


@pytest.mark.parametrize(("name", "file"), [("teacher", "teacher.jsonl"), ("slm", "CONTENDER.jsonl")])
def test_whose_predictions_are_to_be_made_again_is_said(tmp_path: Path, name: str, file: str) -> None:
    with Journal(tmp_path, name) as journal:
        journal.put(key(1), {"outcome": "empty", "raw": "", "run": "run-1"})
    said = _take_back(tmp_path, "--name", name, "--run", "run-1").stdout
    assert "1 results taken back" in said
    assert f"delete results/predictions/TRACK/{file} and" in said


def test_what_was_taken_back_and_put_again_counts(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as journal, Journal(tmp_path, "x") as other:
        journal.put(key(1), {"n": 1})
        assert other.take_back([key(1), key(1), key(2)], {"why": "test"}) == 0, "it has not seen it"
        other.refresh()
        assert other.take_back([key(1), key(1), key(2)], {"why": "test"}) == 1
        journal.refresh()
        assert key(1) not in journal
        journal.put(key(1), {"n": 2})
        other.refresh()
        assert other.get(key(1)) == {"n": 2}
    with Journal(tmp_path, "x") as journal:
        journal.compact()
        assert journal.get(key(1)) == {"n": 2}


def test_a_file_that_is_shortened_removed_or_replaced_under_a_journal_is_noticed(tmp_path: Path) -> None:
    for number, harm in enumerate(("shorten", "remove", "replace", "empty the folder")):
        folder = tmp_path / str(number)
        with Journal(folder, "x") as journal:
            journal.put_many([(key(n), {"n": n}) for n in range(3)])
            whole = journal.path.read_bytes()
            if harm == "shorten":
                os.truncate(journal.path, len(whole) // 2)
            elif harm == "replace":
                journal.path.unlink()
                journal.path.write_bytes(whole.splitlines(keepends=True)[0])
            else:
                for path in [journal.path] if harm == "remove" else list(folder.iterdir()):
                    path.unlink()
            words = "was shortened" if harm == "shorten" else "was removed or replaced"
            with pytest.raises(Unavailable, match=words):
                journal.refresh()
            with pytest.raises(Unavailable, match=words):
                journal.put(key(9), {"n": 9})


@pytest.mark.parametrize("call", ["flock", "fcntl"])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def none(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, call, none)
    with pytest.raises(ConfigError, match=f"{tmp_path}.*cannot lock files.*set `journal`"), Journal(tmp_path, "x"):
        pass


def test_after_a_compaction_observers_begin_again(tmp_path: Path) -> None:
    class Lines:
        seen = 0

        def observe(self, line: bytes) -> None:
            self.seen += 1

        def restart(self) -> None:
            self.seen = 0

    lines = Lines()
    with Journal(tmp_path, "x") as writer:
        writer.put_many([(key(n % 2), {"n": n}) for n in range(6)])
        with Journal(tmp_path, "x", lines) as reader:
            assert lines.seen == 6
            writer.compact()
            reader.refresh()
            assert lines.seen == 2
