"""How far shared weights can rank vectors, by the shipped NAR-Bench.

    python -m benchmarks.nar_bench [--json]

Nothing is trained. "Ceiling" is how well a measure agrees with itself: no search by it can do better.
"""

from __future__ import annotations

import argparse
import json

from papers_lib.nar.study import bench_tables


def main() -> None:
    """Print the table, or its CSV in JSON."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--json", action="store_true")
    options, table = parser.parse_args(), bench_tables.rankings()
    print(json.dumps({table.name: table.csv()}, ensure_ascii=False) if options.json else table)


if __name__ == "__main__":
    main()
