"""Cleaning and deduplication of conversations, around the quality filter."""
