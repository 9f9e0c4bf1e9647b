"""Side by side with public peers and plain ways, in one run, as ratios: `python -m benchmarks.NAME`."""
