"""The command: its runs, what it judges and what it draws. Only here are parts named by strings."""
