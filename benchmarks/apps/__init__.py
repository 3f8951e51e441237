"""Small services for the benchmarks: a page by Django, an answer by FastAPI."""
