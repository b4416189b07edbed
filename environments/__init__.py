"""The environments: names, games, small partially observed tasks, frozen torsos, rewards."""
