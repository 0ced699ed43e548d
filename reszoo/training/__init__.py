"""Training: recipes, resumable runs, fine-tuning, evaluation and prediction."""
