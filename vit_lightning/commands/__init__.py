"""The commands: a file each, with a `main(arguments)` that gives the exit status; what several share beside them."""
