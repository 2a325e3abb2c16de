"""Group commit: callers that wait at the same time share one fsync, made on another thread."""

import asyncio

from fledgling.journal import Journal


class Commits:
    """One a running event loop and journal."""

    def __init__(self, kept: Journal) -> None:
        self._kept = kept
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[None]] = []
        self._running = False

    async def commit(self) -> None:
        """Return when everything appended so far is on disk."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(done)
        if not self._running:
            self._start()
        await done

    def _start(self) -> None:
        self._running = True
        served, self._waiting = self._waiting, []
        sync = self._loop.run_in_executor(None, self._kept.sync)
        sync.add_done_callback(lambda result: self._finish(result, served))

    def _finish(self, result: "asyncio.Future[None]", served: "list[asyncio.Future[None]]") -> None:
        error = result.exception()
        for done in served:
            if not done.done():
                if error:
                    done.set_exception(error)
                else:
                    done.set_result(None)
        self._running = False
        if self._waiting:
            self._start()
