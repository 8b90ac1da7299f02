"""Style sheets after rendering: the dark one holds only what differs, and both hold only what some page can use."""
