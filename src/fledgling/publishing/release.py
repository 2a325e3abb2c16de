"""An adapter with its evidence, as the files of one upload."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Adapter, HubMarker, Json, Metrics, Rung, Verdict
from fledgling.errors import ConfigError, DataError
from fledgling.graph.sees import Settings
from fledgling.integrity import refuse_edited
from fledgling.models import adapter as bound
from fledgling.models import checkpoint
from fledgling.publishing.card import Facts, card
from fledgling.publishing.files import File, folder_in_repo, generated_file, local_file, select
from fledgling.publishing.upload import Target, marker, upload

VERDICT = "verdict.json"
CARD = "README.md"
ROUNDING = 1e-5  # verdicts hold six decimals


def publish_adapter(
    *,
    track: str,
    verdict: Path,
    adapters: Sequence[Path],
    metrics: Sequence[Path],
    models: Sequence[Path],
    settings: Settings,
) -> HubMarker:
    """Upload the adapter that the verdict deploys, with its card, verdict and manifest; returns the marker.

    `adapters` are the manifests of all adapters of the ladder (results/adapters/{track}/{adapter}/manifest.json),
    `models` those of all checkpoints, `metrics` files named after their contenders. `settings` is {"publish", "track"};
    {track} in publish.repo_id and publish.path_in_repo is replaced. With publish.force, where the verdict deploys no
    adapter, the last contender of the ladder that has one is taken.

    Raises:
        ConfigError: publish.repo_id is not set; see also upload.
        DataError: the verdict recommends something else, an artefact is damaged or does not belong to
            the others; see also upload.
        Unavailable: see upload.
    """
    publish: Settings = {key: _named(value, track) for key, value in settings["publish"].items()}
    if not publish["repo_id"]:
        raise ConfigError("publish.repo_id is not set: name the repository, for example repo_id: my-team/{track}-slm")
    target = Target(publish["repo_id"], publish.get("repo_type") or "model", publish["private"])
    made_from = artefacts.digests(verdict, *metrics)
    decided = artefacts.read(Verdict, verdict)
    if decided["track"] != track:
        raise DataError(f"{verdict}: is about track {decided['track']!r}, not {track!r}")
    contender = deployed(decided, source=str(verdict), force=bool(publish.get("force")))
    adapter = _of_folder(adapters, contender["adapter"] or "", "adapter")
    base = checkpoint.load(_of_folder(models, contender["model"], "model"), verify=True)
    made_from |= artefacts.digests(adapter)
    bound.load(adapter, base)
    measured = {path.stem: artefacts.read(Metrics, path) for path in metrics}
    artefacts.require_same(decided["made_from"], made_from, verdict)
    refuse_unproven(decided, contender, measured, source=str(verdict))
    facts = Facts(
        repo_id=target.repo_id,
        title=settings["track"].get("title") or decided["title"],
        verdict=decided,
        contender=contender,
        metrics=measured,
        adapter=artefacts.read(Adapter, adapter),
        model=base,
        license=publish.get("license"),
        forced=decided["deploy"] != contender["name"],
    )
    prefix = folder_in_repo(publish.get("path_in_repo"))
    files = adapter_files(adapter, verdict, card(facts), prefix)
    digest = made_from[str(adapter)]
    _require_read(files, {**made_from, **_listed(adapter, facts.adapter)})
    landed = upload(files, target, f"{track}: adapter {digest[:12]}")
    made_from = dict(sorted(made_from.items()))
    return marker(landed, target, files, path_in_repo=publish.get("path_in_repo"), manifest=digest, made_from=made_from)


def _listed(path: Path, manifest: Adapter) -> dict[str, str]:
    """{path: sha256} of the files that an adapter's manifest lists."""
    return {str(path.parent / name): known["sha256"] for name, known in manifest["files"].items()}


def _require_read(files: Sequence[File], read: Mapping[str, str]) -> None:
    """Refuse files that are no longer those that were read and verified before (DataError)."""
    for file in files:
        if isinstance(file.content, Path) and read.get(str(file.content)) != file.sha256:
            raise DataError(f"{file.content}: changed after it was verified; nothing was sent, run the same command")


def publish_paths(
    paths: Sequence[str], target: Target, *, message: str, path_in_repo: str | None, auto_subdir: bool
) -> HubMarker:
    """Upload files and folders as they lie, by hand; says what was left out and what landed.

    Raises:
        UsageError, DataError, ConfigError, Unavailable: see select and upload.
    """
    selection = select(paths, path_in_repo=path_in_repo, auto_subdir=auto_subdir, repo_type=target.repo_type)
    refuse_edited([file.content for file in selection.files if isinstance(file.content, Path)], Path("results"))
    landed = upload(selection.files, target, message)
    for path in selection.left_out:
        print(f"left out: {path}")
    print(f"{landed.repo_id}: {len(landed.sent)} of {len(selection.files)} files sent, commit {landed.commit}")
    return marker(landed, target, selection.files, path_in_repo=path_in_repo, manifest=None, made_from={})


def _of_folder(paths: Sequence[Path], name: str, what: str) -> Path:
    found = next((path for path in paths if path.parent.name == name), None)
    if found is None:
        raise DataError(f"no manifest of {what} {name!r} is given; found: {', '.join(map(str, paths)) or 'none'}")
    return found


def deployed(verdict: Verdict, *, source: str, force: bool) -> Rung:
    """The contender whose adapter is published: the one that the verdict deploys, or with `force` the last with one.

    Raises:
        DataError: the verdict deploys something that has no adapter; says what to do.
    """
    with_adapter = [rung for rung in verdict["ladder"] if rung["adapter"]]
    if chosen := [rung for rung in with_adapter if rung["name"] == verdict["deploy"]]:
        return chosen[0]
    if force and with_adapter:
        return with_adapter[-1]
    remedy = (
        "To publish the adapter all the same (its card will say so), set publish.force: true"
        if with_adapter
        else "No adapter was trained; finetune: always trains one whatever the gate says"
    )
    raise DataError(
        f"{source}: the verdict is to deploy {verdict['deploy']}, which has no adapter; nothing was published. {remedy}"
    )


def _named(value: Json, track: str) -> Json:
    return value.replace("{track}", track) if isinstance(value, str) else value


def adapter_files(adapter: Path, verdict: Path, readme: str, prefix: str = "") -> list[File]:
    """The files of an adapter's upload, and no others, sorted by name."""
    names = (bound.WEIGHTS, bound.CONFIG, bound.TRAINING)
    files = [local_file(prefix + name, adapter.parent / name) for name in names]
    files += [local_file(prefix + bound.MANIFEST, adapter), local_file(prefix + VERDICT, verdict)]
    files.append(generated_file(prefix + CARD, readme.encode()))
    return sorted(files, key=lambda file: file.name)


def refuse_unproven(verdict: Verdict, contender: Rung, metrics: Mapping[str, Metrics], *, source: str) -> None:
    """Check that the verdict and the metrics speak of the same measurement of this contender.

    Raises:
        DataError: names the file and what to do.
    """
    again, name = f"build it again with: snakemake --cores all {source}", contender["name"]
    compared = verdict["comparisons"].get(name)
    if compared is None or name not in metrics:
        raise DataError(f"{source}: {name} was not measured, so there is nothing to publish it on; {again}")
    if len({value["data_sha256"] for value in metrics.values()}) > 1:
        raise DataError(f"{source}: its contenders were measured on different rows; {again}")
    for metric, entry in compared["metrics"].items():
        rate = metrics[name]["metrics"].get(metric)
        if rate is None or abs(rate["value"] - entry["contender"]) > ROUNDING:
            value = None if rate is None else rate["value"]
            raise DataError(f"{source}: {metric} is {entry['contender']} there and {value} in the metrics; {again}")
