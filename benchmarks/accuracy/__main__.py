"""`python -m benchmarks.accuracy`: error rates of the published profiles, as JSON and as docs/accuracy.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.accuracy import face_probes, irises, photographs, several_templates
from device_sdk.biometrics.face.photographs import load_photographs
from mpc.login.published_profiles import PUBLISHED

_DATA = Path("../shared/data/orl_faces_s01_s20.npz")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make accuracy ARGS=…", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="FILE.npz", help="photographs; the counts only, no report")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR", help="of the report (default docs)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts of the photograph part")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        images = load_photographs(options.data or _DATA)
    except (ValueError, OSError) as error:
        console.print(f"[bold red]{error}[/]")
        return 2
    subjects, pictures = images.shape[:2]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("faces", total=subjects * pictures)
        captures = photographs.captured(images, lambda: progress.advance(task))
        tries = subjects * subjects * (pictures - photographs.ENROLLED_PICTURES)
        task = progress.add_task("logins", total=tries)
        result = photographs.run(images, captures, lambda: progress.advance(task))
        if options.data is None:
            projections, known = photographs.constants_for(images, captures)
            task = progress.add_task("crafted probes", total=subjects)
            crafted = face_probes.tried(captures, result, projections, known, lambda: progress.advance(task))
            task = progress.add_task("several templates", total=subjects)
            several = [
                several_templates.faces(captures, projections, known, result.profile, lambda: progress.advance(task))
            ]
        if options.data is None:
            task = progress.add_task("simulated irises", total=irises.EYES + 2 * irises.STEPS)
            eyes = irises.simulate(lambda: progress.advance(task))
            found = [
                irises.run(PUBLISHED[name], [eye[at] for eye in eyes], lambda: progress.advance(task))
                for at, name in enumerate(("iris-2048", "iris-4096"))
            ]
            several.append(several_templates.simulated_irises(PUBLISHED["iris-2048"], [eye[0] for eye in eyes]))
    if options.data is None:
        # Here, since drawing loads a lot that counting does not need.
        from benchmarks.accuracy import report

        report.write(options.out, result, crafted, found, several)
    document = result.as_dict()
    text = json.dumps(document, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
