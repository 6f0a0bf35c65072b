"""MLflow, told of by `--tracker mlflow`: runs, reports, models and their aliases. No torch in here."""
