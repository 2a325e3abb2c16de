"""Keep the adapter of a training that answers val best.

Reads the manifests of the candidates, the metrics that each reached on val and the training's history, and writes the
best one's weights and configuration, the history with how it was chosen and, last, its manifest. The first of the core
metrics counts first; of equals the later one stays. A single candidate needs no metrics.
"""

import argparse
from pathlib import Path

from fledgling.cli import run
from fledgling.graph import sees
from fledgling.training.select_adapter import select


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True, help="name of the track")
    parser.add_argument("--candidates", required=True, nargs="+", type=Path, help="their manifests, in order of steps")
    parser.add_argument(
        "--metrics", nargs="*", default=[], type=Path, help="what each reached on val, in the same order"
    )
    parser.add_argument(
        "--summary", required=True, type=Path, help="results/candidates/{track}/{adapter}/training.json"
    )
    sees.add_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, help="…/adapter_model.safetensors; the others lie beside it")
    args = parser.parse_args()
    core = sees.of_arguments(args, "select_adapter")["core"]
    select(candidates=args.candidates, metrics=args.metrics, summary=args.summary, core=core, out=args.out.parent)


if __name__ == "__main__":
    run(main)
