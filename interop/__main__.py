"""`python -m interop --write DIR` makes the vectors; `--check DIR` tells whether those in DIR are what comes out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from interop.notation import text_of
from interop.topics import TOPICS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m interop", description="Interoperability vectors.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="DIR", help="make every file anew")
    what.add_argument("--check", type=Path, metavar="DIR", help="exit code 1 if a file is not what would be written")
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"all unless named: {', '.join(TOPICS)}")
    chosen = parser.parse_args()
    if unknown := set(chosen.topics) - set(TOPICS):
        parser.error(f"no such topic: {', '.join(sorted(unknown))}")
    differing = 0
    for name in chosen.topics or TOPICS:
        text = text_of(TOPICS[name]())
        if chosen.write is not None:
            path = chosen.write / f"{name}.json"
            path.write_text(text, encoding="utf-8")
            print(f"{path}: {len(text.encode('utf-8')):,} bytes")
            continue
        path = chosen.check / f"{name}.json"
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        print(f"{path}: {'as made' if same else 'DIFFERS'}")
        differing += not same
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
