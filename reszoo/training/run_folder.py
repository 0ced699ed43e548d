"""What the files of a run's folder are called."""

STATE, HISTORY, BEST, FINAL, SETTINGS, CARD = (
    "state",
    "history.jsonl",
    "best.keras",
    "model.keras",
    "run.json",
    "README.md",
)
