"""How far shared weights can rank vectors, and whether a search beats blind draws, by the shipped NAR-Bench.

    python -m benchmarks.nar_bench [--json]

Nothing is trained. "Ceiling" is how well a measure agrees with itself: no search by it can do better.
"""

from __future__ import annotations

import argparse
import json

from papers_lib.exhibits.table import Table
from papers_lib.nar.study import bench_tables


def main() -> None:
    """Print the tables, or their CSV in JSON."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--json", action="store_true")
    shown: list[Table] = list(bench_tables.tables().values())
    if not parser.parse_args().json:
        print("\n\n".join(map(str, shown)))
        return
    print(json.dumps({table.name: table.csv() for table in shown}, ensure_ascii=False))


if __name__ == "__main__":
    main()
