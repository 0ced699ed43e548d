"""File names in a run folder."""

STATE = "state"
HISTORY = "history.jsonl"
BEST = "best.keras"
FINAL = "model.keras"
SETTINGS = "run.json"
CARD = "README.md"
