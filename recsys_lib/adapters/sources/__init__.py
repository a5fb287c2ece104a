"""Raw records from outside: files, and the replay of a log as if it arrived window by window."""
