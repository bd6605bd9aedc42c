"""What a traced loss function draws becomes a function of keys that the step gives it."""
