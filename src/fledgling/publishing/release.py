"""An adapter with its evidence, as the files of one upload."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fledgling.errors import ConfigError, DataError
from fledgling.files import read_json, sha256_file
from fledgling.models import adapter as adapters
from fledgling.models import checkpoint as models
from fledgling.publishing.card import Facts, card
from fledgling.publishing.files import File, folder_in_repo, generated_file, local_file
from fledgling.publishing.upload import Target, marker, upload

VERDICT = "verdict.json"
CARD = "README.md"
ROUNDING = 1e-5  # verdicts hold six decimals


def publish_adapter(
    *, track: str, adapter: Path, verdict: Path, metrics: Sequence[Path], model: Path, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Upload an adapter with its card, verdict and manifest; returns the marker.

    `settings` is {"publish": …, "track": …}; {track} in publish.repo_id and publish.path_in_repo is
    replaced. Metrics files are named after their contender.

    Raises:
        ConfigError: publish.repo_id is not set; see also upload.
        DataError: the verdict recommends something else, an artefact is damaged or does not belong to
            the others; see also upload.
        Unavailable: see upload.
    """
    publish = {key: _named(value, track) for key, value in settings["publish"].items()}
    if not publish["repo_id"]:
        raise ConfigError("publish.repo_id is not set: name the repository, for example repo_id: my-team/{track}-slm")
    target = Target(
        publish["repo_id"],
        publish.get("repo_type") or "model",
        publish["private"],
    )
    facts = _facts(track, adapter, verdict, metrics, model, settings, target.repo_id)
    prefix = folder_in_repo(publish.get("path_in_repo"))
    files = adapter_files(adapter, verdict, card(facts), prefix)
    digest = sha256_file(adapter)
    landed = upload(files, target, f"{track}: adapter {digest[:12]}")
    return marker(landed, target, files, path_in_repo=publish.get("path_in_repo"), manifest=digest)


def _named(value: Any, track: str) -> Any:
    return value.replace("{track}", track) if isinstance(value, str) else value


def adapter_files(adapter: Path, verdict: Path, readme: str, prefix: str = "") -> list[File]:
    """The files of an adapter's upload, and no others, sorted by name."""
    names = (adapters.WEIGHTS, adapters.CONFIG, adapters.TRAINING)
    files = [local_file(prefix + name, adapter.parent / name) for name in names]
    files += [local_file(prefix + adapters.MANIFEST, adapter), local_file(prefix + VERDICT, verdict)]
    files.append(generated_file(prefix + CARD, readme.encode()))
    return sorted(files, key=lambda file: file.name)


def _facts(
    track: str,
    adapter: Path,
    verdict: Path,
    metrics: Sequence[Path],
    model: Path,
    settings: Mapping[str, Any],
    repo_id: str,
) -> Facts:
    base = models.load(model)
    adapters.load(adapter, base)
    decided = read_json(verdict)
    measured = {path.stem: read_json(path) for path in metrics}
    force = bool(settings["publish"].get("force"))
    refuse_unproven(decided, measured, track=track, source=str(verdict), force=force)
    return Facts(
        repo_id=repo_id,
        title=settings["track"].get("title") or decided.get("title") or track,
        verdict=decided,
        metrics=measured,
        adapter=read_json(adapter),
        model=base,
        license=settings["publish"].get("license"),
        forced=decided["deploy"] != "tuned",
    )


def refuse_unproven(
    verdict: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]], *, track: str, source: str, force: bool
) -> None:
    """Check that the evidence is about this adapter and, unless `force`, in favour of it.

    Raises:
        DataError: names the file and what to do.
    """
    again = f"build it again with: snakemake --cores all {source}"
    if verdict.get("format") != "fledgling/verdict/1" or verdict["track"] != track:
        raise DataError(f"{source}: not the verdict of track {track}; {again}")
    tuned = verdict["comparisons"].get("tuned")
    if tuned is None or "tuned" not in metrics:
        raise DataError(f"{source}: the tuned model was not measured, so there is nothing to publish it on; {again}")
    if verdict["deploy"] != "tuned" and not force:
        raise DataError(
            f"{source}: the verdict is to deploy {verdict['deploy']}, not the tuned model; nothing was published. "
            "To publish it all the same (its card will say so), set publish.force: true"
        )
    if len({value["data_sha256"] for value in metrics.values()}) > 1:
        raise DataError(f"{source}: its contenders were measured on different rows; {again}")
    for name, compared in tuned["metrics"].items():
        value = metrics["tuned"]["metrics"].get(name, {}).get("value")
        if value is None or abs(value - compared["contender"]) > ROUNDING:
            raise DataError(f"{source}: {name} is {compared['contender']} there and {value} in the metrics; {again}")
