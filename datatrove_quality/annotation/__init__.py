"""Annotations by an LLM judge: rubrics, prompts, answers, and the step that asks an endpoint about every row."""
