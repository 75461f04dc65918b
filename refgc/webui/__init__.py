"""What the web pages of the project share."""
