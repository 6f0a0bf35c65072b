"""Training and using a model in the browser: a face over the commands and the files of the runs, no second engine."""
