"""Upload to the Hugging Face Hub: a track's adapter with a card made from its verdict, or files by hand.

By hand, paths (files, folders) go to --repo-id as they lie, with --auto-subdir each folder under its
own name. With --adapter, the adapter goes with its card, verdict and manifest. Either way: one
commit, private unless --public, pickles, keys and links left out, credentials in any file refused,
and nothing sent that is there already. The token is HF_TOKEN or the stored login of `hf auth login`;
HF_ENDPOINT is another Hub.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from fledgling.cli import run
from fledgling.errors import UsageError
from fledgling.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    graph.add_argument("--adapter", type=Path, help="results/adapters/{track}/manifest.json")
    graph.add_argument("--verdict", type=Path, help="results/verdict/{track}.json")
    graph.add_argument("--metrics", type=Path, nargs="+", help="results/metrics/{track}/{contender}.json")
    graph.add_argument("--model", type=Path, help="results/models/slm/manifest.json")
    graph.add_argument("--settings", type=json.loads, help='JSON: {"publish": …, "track": …}')
    args = parser.parse_args()
    marker = by_hand(args) if args.adapter is None else adapter(args)
    if args.out:
        write_json(args.out, marker)


def by_hand(args: argparse.Namespace) -> dict[str, Any]:
    paths = [*args.paths, *args.more]
    if not paths or not args.repo_id:
        raise UsageError("name what to upload and where: scripts/publish.py PATH… --repo-id owner/name")
    from fledgling.publishing.files import select
    from fledgling.publishing.upload import Target, marker, upload

    selection = select(paths, path_in_repo=args.path_in_repo, auto_subdir=args.auto_subdir, repo_type=args.repo_type)
    target = Target(args.repo_id, args.repo_type, args.private, args.revision)
    landed = upload(selection.files, target, args.commit_message)
    for path in selection.left_out:
        print(f"left out: {path}")
    print(f"{landed.repo_id}: {len(landed.sent)} of {len(selection.files)} files sent, commit {landed.commit}")
    return marker(landed, target, selection.files, path_in_repo=args.path_in_repo, manifest=None)


def adapter(args: argparse.Namespace) -> dict[str, Any]:
    needed = ("track", "verdict", "metrics", "model", "settings", "out")
    if missing := [f"--{name}" for name in needed if not getattr(args, name)]:
        raise UsageError(f"--adapter also needs {', '.join(missing)}")
    from fledgling.publishing.release import publish_adapter

    return publish_adapter(
        track=args.track,
        adapter=args.adapter,
        verdict=args.verdict,
        metrics=args.metrics,
        model=args.model,
        settings=args.settings,
    )


if __name__ == "__main__":
    run(main)
