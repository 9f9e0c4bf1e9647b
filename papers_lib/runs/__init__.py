"""A run: spec -> worker process -> result; the store, the executor, and strict papermill."""
