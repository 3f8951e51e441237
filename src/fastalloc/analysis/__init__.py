"""From snapshots to answers: plain functions, one question each."""
