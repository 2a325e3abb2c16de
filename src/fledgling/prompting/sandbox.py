"""Chat templates run in a process of their own: they come with a checkpoint, so from people who are not known.

`python -m fledgling.prompting.sandbox` is that process. It reads a job (one JSON line: the template and its
special tokens), then one JSON line a rendering, and answers each with one. Jinja's sandbox keeps a template from
reaching anything; a timer of processor time, a limit of memory and one of text keep it from going on for ever.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

SECONDS = 1.0  # of processor time for one rendering, and as much again for each megabyte that is put in
TEXT = 1 << 20  # characters that a rendering may write, and GROWTH times what is put in
GROWTH = 8  # JSON in JSON and indentation
MEMORY = 1 << 29  # bytes that the process may have
ENDLESS = 3  # renderings that may run out of time before no more are tried
# What templates take for today: a prompt is the same tomorrow, and an adapter meets the one that it was trained on.
TODAY = datetime(2024, 7, 26)


class RenderError(Exception):
    """A template that cannot be read, refuses the turns, or does not end (`endless`); says which in its own words."""

    def __init__(self, message: str, *, endless: bool = False) -> None:
        super().__init__(message)
        self.endless = endless


class Renderer:
    """Renders one chat template in a process of its own, which ends with this one."""

    def __init__(self, template: str, special: Mapping[str, str]) -> None:
        self._job = json.dumps({"template": template, "special": dict(special)})
        self._process: subprocess.Popen[str] | None = None
        self._endless = 0
        self._lock = threading.Lock()

    def render(
        self, messages: Sequence[Mapping[str, object]], tools: Sequence[object] | None, *, add_generation_prompt: bool
    ) -> str:
        """The text of a conversation.

        Raises:
            RenderError: the template does not give one.
        """
        with self._lock:
            if self._endless >= ENDLESS:
                raise RenderError(
                    f"it took more than {SECONDS:g} s for {ENDLESS} rows; no more are tried", endless=True
                )
            asked = {"messages": messages, "tools": tools, "add_generation_prompt": add_generation_prompt}
            answer = self._ask(json.dumps(asked))
        if "text" not in answer:
            raise RenderError(answer["error"], endless="endless" in answer)
        return answer["text"]

    def _ask(self, line: str) -> dict[str, str]:
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(line + "\n")
            process.stdin.flush()
        said = process.stdout.readline()
        if said.endswith("\n"):
            return json.loads(said)
        self.close()
        if process.returncode == -signal.SIGPROF:
            self._endless += 1
            return {"error": f"it takes more than {SECONDS:g} s of processor time", "endless": "yes"}
        return {"error": f"the process that renders it ended ({process.returncode})"}

    def _start(self) -> "subprocess.Popen[str]":
        source = str(Path(__file__).parents[2])  # the same code as here, wherever this process found it
        path = os.pathsep.join(part for part in (source, os.environ.get("PYTHONPATH", "")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fledgling.prompting.sandbox"],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdin
        self._process.stdin.write(self._job + "\n")
        return self._process

    def close(self) -> None:
        """End the process; the next rendering starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if stream:
                        stream.close()
            process.wait()

    def __del__(self) -> None:
        self.close()


def compiled(template: str) -> Callable[..., str]:
    """A function of the variables of a template that renders it as transformers does, in at most `limit` characters.

    Raises:
        RenderError: the template cannot be read.
    """
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what the model writes, for those who train; it changes no text."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 has it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def refuse(message: object) -> None:
        raise RenderError(str(message))

    def to_json(
        value: object, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = TODAY.strftime
    try:
        ready = environment.from_string(template)
    except jinja2.TemplateSyntaxError as error:
        raise RenderError(f"line {error.lineno}: {error.message}") from None

    def render(limit: int, variables: Mapping[str, object]) -> str:
        parts, size = [], 0
        for part in ready.generate(variables):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise RenderError(f"it writes more than {limit:,} characters")
        return "".join(parts)

    return render


def _answer(render: Callable[..., str], special: Mapping[str, str], line: str) -> dict[str, str]:
    try:
        return {"text": render(TEXT + GROWTH * len(line), {**special, **json.loads(line)})}
    except MemoryError:
        return {"error": f"it takes more than {MEMORY >> 20} MB of memory"}
    except RecursionError:
        return {"error": "it, or what is put in, is nested too deeply"}
    except RenderError as error:
        return {"error": " ".join(str(error).split())[:500]}
    except Exception as error:  # jinja2 raises TemplateError, TypeError and more, by template
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}


def serve(source: IO[str], out: IO[str]) -> None:
    """Answer the renderings of one job."""
    job = json.loads(source.readline())
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _limit_time(len(job["template"]))
    try:
        render = compiled(job["template"])
    except (RenderError, RecursionError, MemoryError) as error:
        failed = str(error) or type(error).__name__

        def render(*_: object) -> str:
            raise RenderError(failed)

    for line in source:
        _limit_time(len(line))
        answer = _answer(render, job["special"], line)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), file=out, flush=True)


def _limit_time(size: int) -> None:
    signal.setitimer(signal.ITIMER_PROF, SECONDS * (1 + size / 1e6))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with contextlib.suppress(KeyboardInterrupt):
        serve(sys.stdin, sys.stdout)
