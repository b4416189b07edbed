"""An agent at play, as a film, a sheet of screens, or a map of what moves it."""
