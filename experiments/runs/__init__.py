"""One run: how it is kept in its directory, trained, watched and evaluated."""
