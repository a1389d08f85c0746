"""What happens around a cell: options, decisions, the run itself, what the session concludes."""
