"""What `verify` checks of a LightX2V checkpoint, one module each; they share nothing with the code that writes one."""
