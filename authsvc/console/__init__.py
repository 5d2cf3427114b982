"""The operators' web console: pages made on the server, one style sheet, no scripts."""
