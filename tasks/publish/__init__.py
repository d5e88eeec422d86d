"""Publish: the run's folder, its report and its figures; the manifest is written last."""
