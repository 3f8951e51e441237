"""One module per framework. Each names the spans of its units of work, and nothing else."""
