"""The reasons why a stage stops, one class an exit code (see docs/faults.md)."""


class FledglingError(Exception):
    """A stop that the user can act on: the message says what happened, where, and what to do."""

    exit_code = 1


class UsageError(FledglingError):
    """The command line does not make sense."""

    exit_code = 2


class ConfigError(FledglingError):
    """Configuration, credentials or permissions are wrong; nothing was sent or written."""

    exit_code = 3


class Unavailable(FledglingError):
    """A provider, a disk or a budget gave out; the same command goes on from here."""

    exit_code = 4


class DataError(FledglingError):
    """Input data or an artefact is invalid."""

    exit_code = 5
