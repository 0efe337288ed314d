"""Runs a backend on a kit from the command line: python BACKEND.py KIT [LEVEL ...]"""

import pathlib
import sys


def judge(about, results, forward=False):
    """Judges `results(kit, case)` for every case of the kit and the levels that the command line names, and exits as
    `kit.finish()` does; without a kit it prints what the program is `about`."""
    folder, *levels = sys.argv[1:] or ["--help"]
    if folder in ("-h", "--help"):
        sys.exit(print(about))
    if not pathlib.Path(folder, "golden.py").is_file():
        sys.exit(f"{folder}: no golden.py in it; name a folder that `ancestral golden export` made, as data/golden")
    sys.path.append(folder)
    import golden  # part of the kit

    try:
        kit = golden.open(folder, forward=forward)
        for level in levels or [None]:
            for case in kit.cases(level=level):
                case.report(results(kit, case))
        kit.finish()
    except golden.GoldenError as error:
        sys.exit(str(error))
