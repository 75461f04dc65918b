"""The Gradio page on which people meet the project."""
