"""What `verify` checks of a checkpoint, one module each; they share nothing with the code that writes one."""
