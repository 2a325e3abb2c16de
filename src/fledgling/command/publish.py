"""Upload to the Hugging Face Hub: a track's adapter with a card made from its verdict, or files by hand.

By hand, paths (files, folders) go to --repo-id as they lie, with --auto-subdir each folder under its
own name. With --verdict, the adapter that it deploys goes with its card, verdict and manifest. Either way: one
commit, private unless --public, pickles, keys and links left out, credentials in any file refused,
and nothing sent that is there already. The token is HF_TOKEN or the stored login of `hf auth login`;
HF_ENDPOINT is another Hub.
"""

import argparse
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import HubMarker
from fledgling.errors import UsageError
from fledgling.graph import sees


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--out", type=Path, help="marker to write (.json): repository, commit, files")
    hand = parser.add_argument_group("by hand")
    hand.add_argument("paths", nargs="*", default=[], help="files and folders to upload")
    hand.add_argument("--path", dest="more", nargs="+", action="extend", default=[], help="the same, as an option")
    hand.add_argument("--repo-id", help="owner/name; without an owner, the user of the token")
    hand.add_argument("--repo-type", choices=["model", "dataset", "space"], default="model")
    visibility = hand.add_mutually_exclusive_group()
    visibility.add_argument("--private", dest="private", action="store_true", default=True, help="the default")
    visibility.add_argument("--public", dest="private", action="store_false")
    hand.add_argument("--auto-subdir", action="store_true", help="each folder under a folder of its own name")
    hand.add_argument("--path-in-repo", help="folder of the repository; default is its root")
    hand.add_argument("--revision", help="branch, made where there is none; default is main")
    hand.add_argument("--commit-message", default="Upload with Fledgling")
    graph = parser.add_argument_group("a track's adapter")
    graph.add_argument("--track", help="name of the track")
    graph.add_argument("--verdict", type=Path, help="results/verdict/{track}.json")
    graph.add_argument("--adapters", type=Path, nargs="*", default=[], help="results/adapters/{track}/*/manifest.json")
    graph.add_argument("--metrics", type=Path, nargs="+", help="results/metrics/{track}/{contender}.json")
    graph.add_argument("--models", type=Path, nargs="+", help="results/models/*/manifest.json")
    sees.add_arguments(graph)


def call(args: argparse.Namespace) -> None:
    """Upload, and write the marker."""
    marker = _by_hand(args) if args.verdict is None else _of_track(args)
    if args.out:
        artefacts.write(HubMarker, args.out, marker)


def _by_hand(args: argparse.Namespace) -> HubMarker:
    paths = [*args.paths, *args.more]
    if not paths or not args.repo_id:
        raise UsageError("name what to upload and where: fledgling publish PATH… --repo-id owner/name")
    from fledgling.publishing.release import publish_paths
    from fledgling.publishing.upload import Target

    return publish_paths(
        paths,
        Target(args.repo_id, args.repo_type, args.private, args.revision),
        message=args.commit_message,
        path_in_repo=args.path_in_repo,
        auto_subdir=args.auto_subdir,
    )


def _of_track(args: argparse.Namespace) -> HubMarker:
    if missing := [f"--{name}" for name in ("track", "metrics", "models", "out") if not getattr(args, name)]:
        raise UsageError(f"--verdict also needs {', '.join(missing)}")
    from fledgling.publishing.release import publish_adapter

    return publish_adapter(
        track=args.track,
        verdict=args.verdict,
        adapters=args.adapters,
        metrics=args.metrics,
        models=args.models,
        settings=sees.of_arguments(args, "publish"),
    )
