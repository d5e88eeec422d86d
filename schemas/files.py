"""What runs and studies leave in the artifacts root, by name: folders and the files in them. Here: names alone."""

from __future__ import annotations

from typing import Final

RUNS: Final = "runs"
STUDIES: Final = "studies"
INDEX_FILE: Final = "index.html"

MANIFEST_FILE: Final = "manifest.json"
REPORT_FILE: Final = "report.html"
MODEL_FILE: Final = "model.keras"
CONFIGURATION_FILE: Final = "configuration.json"
RECEIPT_FILE: Final = "receipt.json"
LEDGER_FILE: Final = "ledger.json"
HISTORY_FILE: Final = "history.json"
METRICS_FILE: Final = "metrics.json"
PREDICTIONS_FILE: Final = "predictions.parquet"
LEARNED_FILE: Final = "learned.parquet"
VERDICT_FILE: Final = "verdict.json"
DRIFT_FILE: Final = "drift.json"
TIMINGS_FILE: Final = "timings.json"
PROFILE_FILE: Final = "profile.json"
ENVIRONMENT_FILE: Final = "environment.json"
SAVED_MODEL: Final = "saved_model"
TRIAL: Final = "trial"
TRIAL_IMAGES_FILE: Final = "images.npy"
TRIAL_SEQUENCES_FILE: Final = "sequences.npy"

STUDY_FILE: Final = "study.html"
RESULTS_FILE: Final = "results.json"
