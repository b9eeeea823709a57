"""Fine-tune a classifier by the model card's recipe."""
