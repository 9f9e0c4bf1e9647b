"""`STANDIN.json` beside pictures that a test writes by hand."""

import json
from pathlib import Path

RECIPE = {"size": "tiny", "seed": 0, "options": {}, "drawing": "by hand 1"}


def tell(folder: Path, name: str, counts: dict[str, object], **more: object) -> None:
    text = json.dumps({"name": name, "counts": counts} | RECIPE | more)
    (folder / "STANDIN.json").write_text(text, encoding="utf-8")
