"""What an agent plays: names, games, small partially observed tasks, frozen torsos, rewards."""
