"""What is recorded while a run goes on, through Lightning's hooks alone."""
