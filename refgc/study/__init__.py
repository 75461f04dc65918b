"""The blind user study: a page on which people choose among the results of methods, and what their votes say."""
