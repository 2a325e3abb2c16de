"""Fine-tuning of the small local model on one track."""
