"""Rows of data and conversations: what a row may look like, and how it becomes a document and a row again."""
