"""Stand-ins for everything outside this machine that the loop from push to results talks to."""
