"""Several architectures on one task: which runs that takes, what each came to, and what may be claimed."""
