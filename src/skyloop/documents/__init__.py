"""Bluesky documents in and out; knows event-model and no engine."""
