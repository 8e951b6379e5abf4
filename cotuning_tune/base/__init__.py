"""What knows nothing of the field: errors, files, caches, threads, tables, what a terminal shows."""
