"""Datasets on the Hub: which files a split has, fetched at their commit, to be read as files are.

The `datasets` library says which files make a configuration's split (its README or their names do); it is not asked for
rows, because its tables change them: dates, digits, nulls.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from fledgling.errors import ConfigError, DataError, Unavailable

if TYPE_CHECKING:
    from datasets import DatasetBuilder


class HubSource(TypedDict):
    """`hub` of a source, as configured."""

    repo_id: str
    revision: str
    split: str
    config: NotRequired[str]


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a split: its name in the repository, where it lies here, and how it is read.

    `field` is the key under which a JSON document keeps its rows, where it is not a list.
    """

    name: str
    path: Path
    reader: str
    field: str | None


def files(hub: HubSource, key: str) -> list[HubFile]:
    """The files of a split in their order, fetched if need be; `key` names the source in messages.

    Raises:
        ConfigError: no revision.
        DataError: no such dataset, split or configuration, or a kind of file that is not read.
        Unavailable: the Hub cannot be reached.
    """
    if "revision" not in hub:
        raise ConfigError(f"{key}.hub.revision: this key is missing: a branch moves, name a commit")
    import datasets
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError

    label = f"{hub['repo_id']}@{hub['revision'][:12]}"
    try:
        builder, folder = _opened(hub)
        reader = str(builder.dataset_name if builder.config.data_files is None else _module(builder))
        data_files = builder.config.data_files or {}
        if hub["split"] not in data_files:
            raise DataError(
                f"{key}.hub.split: {label} has no split {hub['split']!r}, it has"
                f" {', '.join(map(str, data_files)) or 'none'}; correct {key}.hub.split or {key}.hub.config"
            )
        if reader not in READERS:
            raise DataError(
                f"{key}.hub: {label} is kept as {reader}, which is not read; JSON, JSON Lines, Parquet and CSV are"
            )
        field = getattr(builder.config, "field", None)
        return [
            HubFile(*_fetched(str(name), hub, folder), reader=reader, field=field) for name in data_files[hub["split"]]
        ]
    except (
        datasets.exceptions.DatasetNotFoundError,
        datasets.exceptions.DataFilesNotFoundError,
        RepositoryNotFoundError,
        EntryNotFoundError,
    ) as error:
        raise DataError(f"{key}.hub: {label} cannot be loaded: {error}; correct {key}.hub") from None
    except (OSError, HfHubHTTPError) as error:
        raise Unavailable(
            f"{key}.hub: {label} cannot be fetched: {error}; the same command goes on from here"
        ) from None
    except ValueError as error:
        raise DataError(f"{key}.hub: {label} cannot be loaded: {error}; correct {key}.hub") from None


def _opened(hub: HubSource) -> "tuple[DatasetBuilder, Path]":
    """What knows a dataset's files, and the folder of those that lie here: without a network, the files fetched before.

    Raises:
        OSError: the Hub cannot be reached, and nothing of that commit was fetched before.
    """
    import datasets
    from huggingface_hub import snapshot_download

    try:
        named = datasets.load_dataset_builder(hub["repo_id"], hub.get("config"), revision=hub["revision"])
        return named, Path(hub["repo_id"]).resolve()
    except ConnectionError as error:
        try:
            folder = snapshot_download(
                hub["repo_id"], repo_type="dataset", revision=hub["revision"], local_files_only=True
            )
        except OSError:
            raise error from None
        return datasets.load_dataset_builder(folder, hub.get("config")), Path(folder).resolve()


READERS = ("json", "parquet", "csv")


def _module(builder: object) -> str:
    """The name of the module that would read the files: json, parquet, csv, text …"""
    return type(builder).__module__.rpartition(".")[2]


def _fetched(name: str, hub: HubSource, folder: Path) -> tuple[str, Path]:
    """A file's name in the repository, and the copy of it here."""
    prefix = f"hf://datasets/{hub['repo_id']}@"
    if not name.startswith("hf://"):
        path = Path(name)
        return (path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name), path
    if not name.startswith(prefix):
        raise DataError(f"{hub['repo_id']}: the split names {name}, a file of another repository; it is not fetched")
    from huggingface_hub import hf_hub_download

    inside = name[len(prefix) :].partition("/")[2]
    found = hf_hub_download(hub["repo_id"], inside, repo_type="dataset", revision=hub["revision"])
    return inside, Path(found)
