"""A paper's tables, figures, claims and errata as data, each with its interval and provenance."""
