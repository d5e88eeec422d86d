"""What each command takes and what it says of itself; what it does is imported when it is called (command)."""
