"""Time and memory of `prepare` over honest rows, and whether planted copies are found among them.

python benchmarks/leaks.py --rows 10000                 values decide the answer: few candidates
python benchmarks/leaks.py --rows 10000 --classes 20    few answers: every row is a candidate
"""

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from fledgling.data.prepare import prepare
from fledgling.errors import DataError

SYLLABLES = [consonant + vowel for consonant in "bdfghklmnprstvz" for vowel in "aeiou"]


def rows(count: int, classes: int, seed: int):
    """Requests of 8 to 20 invented words; no two are alike, though words and answers recur."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(3000)]
    for index in range(count):
        asked = rng.choices(words, k=rng.randint(8, 20))
        answer = {"intent": rng.randrange(classes)} if classes else {"first": asked[0], "last": asked[-1]}
        yield {"id": f"{seed}-{index}", "messages": [{"role": "user", "content": " ".join(asked)}], "answer": answer}


def write(path: Path, items) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        for item in items:
            stream.write(json.dumps(item) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=0, help="answers to choose from; 0 makes them of the request")
    parser.add_argument("--folder", help="where to write; a temporary folder by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        test, train = given.rows // 5, given.rows - given.rows // 5
        write(folder / "train.jsonl", rows(train, given.classes, 1))
        write(folder / "test.jsonl", rows(test, given.classes, 2))
        sources = [{"path": str(folder / "train.jsonl")}, {"path": str(folder / "test.jsonl"), "split": "test"}]
        track = {"kind": "structured", "sources": sources, "splits": {"train": 0.9, "val": 0.1, "test": 0.0}}
        outputs = {split: folder / f"{split}.out" for split in ("train", "val", "test")}
        start = time.perf_counter()
        sheet = prepare(track, 0, name="honest", outputs=outputs)
        wall = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{given.rows:,} honest rows: {wall:.1f} s, peak {peak:.0f} MB, links {sheet['leaks']['links']}")

        copies = list(rows(3, given.classes, 2))
        for index, change in enumerate((str, str.upper, lambda text: text + " please")):
            copies[index]["id"] = f"planted-{index}"
            copies[index]["messages"][0]["content"] = change(copies[index]["messages"][0]["content"])
        write(folder / "planted.jsonl", copies)
        track["sources"] = [*sources, {"path": str(folder / "planted.jsonl"), "split": "train"}]
        try:
            prepare(track, 0, name="planted", outputs=outputs)
        except DataError as error:
            print(error)
        else:
            raise SystemExit("the planted copies were not found")


if __name__ == "__main__":
    main()
