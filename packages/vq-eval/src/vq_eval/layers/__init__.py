"""Where one candidate loses what: every linear and block beside its full-precision twin."""
