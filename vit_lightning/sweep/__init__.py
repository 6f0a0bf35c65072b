"""Many runs over one search space, shared out over any number of processes and machines; no torch in this room."""
