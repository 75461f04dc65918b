"""The page for scripts and MCP clients."""
