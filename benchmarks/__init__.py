"""How fast this project is beside what one would use otherwise: a command a table, see README.md."""
