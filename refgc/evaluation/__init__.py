"""Methods compared on the same pairs: tables and figures."""
