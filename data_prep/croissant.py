"""A data card as Croissant: the JSON-LD by which machines find out what a data set is.

Source: MLCommons, *Croissant Format Specification* 1.1. Nothing is said that the card does not say; what a
card leaves to another one ("as cars196") is taken from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from data_prep.sets import CARDS
from papers_lib.errors import PapersError

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "citeAs": "cr:citeAs",
    "md5": "cr:md5",
}
ARCHIVES = {
    "tgz": "application/x-tar",
    "tar": "application/x-tar",
    "gz": "application/gzip",
    "zip": "application/zip",
}
# where neither the card nor one that it names says it: of what is drawn here
OURS = {"licence": "MIT", "author": "The papers_lib contributors", "year": "2026", "bibtex": ""}
FIELDS = {
    "licence": r"^\| [^|]*licence[^|]* \| (?!as \[)(.+?) \|$",
    "author": r"^ *author = \{(.+?)\},?$",
    "year": r"^ *year = \{(\d+)\}",
    "bibtex": r"^```bibtex\n(.+?)\n```$",
}


def croissant(name: str) -> dict[str, Any]:
    """The card of the data set `name` as an `sc:Dataset`; files with a printed MD5 are its distribution.

    Raises:
        PapersError: there is no such card.
    """
    texts = list(_texts(name))
    found = {field: _first(pattern, texts) or OURS[field] for field, pattern in FIELDS.items()}
    own = texts[0]
    address = re.search(r"https?://[^\s,;)|]+", own)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": next(line for line in own.splitlines() if line and not line.startswith("#")),
        "license": re.sub(r"\[(.+?)\]\(.+?\)", r"\1", found["licence"]),
        "url": address[0] if address else f"{name}.html",  # else the card itself, as the site has it
        "creator": [{"@type": "sc:Person", "name": who} for who in re.split(r"\s+and\s+", found["author"])],
        "datePublished": found["year"],
        "citeAs": found["bibtex"],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file,
                "name": file,
                "contentUrl": file,  # nothing is downloaded: the name within one's own copy
                "encodingFormat": ARCHIVES.get(file.rpartition(".")[2], "application/octet-stream"),
                "md5": md5,
            }
            for file, md5 in re.findall(r"^\| `(.+?)` \| `([0-9a-f]{32})` \|", own, re.MULTILINE)
        ],
    }


def _texts(name: str) -> Iterator[str]:
    """The card, then those that it is "as", nearest first."""
    queue = [name]
    seen: set[str] = set()
    while queue:
        one = queue.pop(0)
        file = CARDS / f"{one}.md"
        if one in seen or (seen and not file.exists()):
            continue
        if not file.exists():
            known = ", ".join(sorted(card.stem for card in CARDS.glob("*.md")))
            raise PapersError(f"unknown data set {name!r}; known: {known}")
        seen.add(one)
        text = file.read_text(encoding="utf-8")
        yield text
        queue += re.findall(r"\b[Aa]s (?:with )?\[\w+\]\((\w+)\.md\)", text)


def _first(pattern: str, texts: Iterable[str]) -> str:
    for text in texts:
        if found := re.search(pattern, text, re.MULTILINE | re.DOTALL):
            return " ".join(found[1].split()) if "\n" in found[1] and "@" not in found[1] else found[1]
    return ""
