"""The operations console: a page for people and a JSON API, on this machine alone.

    python -m fledgling.console                      http://127.0.0.1:4000 for the folder it is started in
    python -m fledgling.console --port 4100          another port
    FLEDGLING_CONSOLE_TOKEN=… python -m fledgling.console    asks for this token, as it must on a shared machine

docs/console.md describes the API, the policy and its limits, and a reverse proxy.
"""

import argparse
import logging
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from fledgling.errors import ConfigError, FledglingError

TOKEN = "FLEDGLING_CONSOLE_TOKEN"
LOCAL = ("127.0.0.1", "localhost", "::1")
SHORTEST = 16  # characters of a token


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the console until it is interrupted; the exit code is that of fledgling.errors."""
    parser = argparse.ArgumentParser(
        prog="python -m fledgling.console", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(), help="folder of the project (default: this one)")
    parser.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="further configuration files, as for snakemake"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; another one needs a token")
    parser.add_argument("--port", type=int, default=4000)
    parser.add_argument("--auth-token-file", type=Path, help=f"file of the token that is asked for (or: {TOKEN})")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME[:PORT]",
        help="name under which a reverse proxy with https brings requests here; needs a token",
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "urllib3", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(
        logging.CRITICAL
    )  # else each stream that is open at the end is an error
    try:
        run(options)
    except FledglingError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def run(options: argparse.Namespace) -> None:
    """Check what can be known beforehand, then serve.

    Raises:
        ConfigError: a package is missing, the port is taken, no token where one is needed, or no project here.
    """
    try:
        from fledgling.console import app, policy, server
    except ModuleNotFoundError as error:
        raise ConfigError(f"the console needs {error.name}: pip install 'fledgling[console]', or make env") from None
    root = options.root.resolve()
    if not (root / "Snakefile").is_file():
        raise ConfigError(
            f"{root}: no Snakefile here; start the console in the folder of a project, or name it: --root"
        )
    token = read_token(options.auth_token_file)
    if options.host not in LOCAL and token is None:
        raise ConfigError(f"--host {options.host} can be reached by others: set {TOKEN} or --auth-token-file")
    if options.allow_host and token is None:
        raise ConfigError(f"--allow-host lets a proxy bring others here: set {TOKEN} or --auth-token-file")
    os.environ.pop(TOKEN, None)
    names = ["127.0.0.1", "localhost", "[::1]"]
    if options.host not in (*LOCAL, "0.0.0.0", "::"):
        names.append(f"[{options.host}]" if ":" in options.host else options.host)
    listener = server.bind(options.host, options.port)
    port = listener.getsockname()[1]
    files = [Path("config/config.yaml"), *(file.resolve() for file in options.configfile)]
    console = app.Console(root, files, warnings(root, token))
    for warning in console.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"Fledgling console: http://127.0.0.1:{port} for {root} (Ctrl-C ends it; runs go on)", flush=True)
    checks = policy.Policy.of(names, port, proxied=options.allow_host, token=token)
    server.serve(policy.Guard(app.make(console), checks), listener)


def read_token(file: Path | None) -> str | None:
    """The token that requests must bring, from a file or the environment.

    Raises:
        ConfigError: the file cannot be read, or the token is short.
    """
    if file is not None:
        try:
            token = file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}; write the token into it") from None
    elif (given := os.environ.get(TOKEN)) is not None:
        token = given.strip()
    else:
        return None
    if len(token) < SHORTEST:
        raise ConfigError(f"the token has {len(token)} characters; at least {SHORTEST}: openssl rand -hex 16")
    return token


def warnings(root: Path, token: str | None) -> list[str]:
    """What an operator should know about where this runs."""
    found = []
    if os.getuid() == 0:
        found.append("runs as root: whatever it starts does, too; use an account of its own")
    if root.stat().st_mode & stat.S_IWOTH:
        found.append(f"{root} can be written by everybody on this machine: chmod o-w it")
    if token is None and _shared():
        found.append(
            f"other users are logged in here and can reach this port: set {TOKEN} (docs/console.md, shared machine)"
        )
    return found


def _shared() -> bool:
    """Whether other people's processes run here; no answer is no."""
    try:
        owners = {entry.stat().st_uid for entry in os.scandir("/proc") if entry.name.isdigit()}
    except OSError:
        return False
    return any(owner >= 1000 and owner != os.getuid() and owner < 60000 for owner in owners)


if __name__ == "__main__":
    sys.exit(main())
