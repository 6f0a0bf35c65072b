"""An exported model behind HTTP. No torch in here, nor in anything that is imported from here."""
