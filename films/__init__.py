"""Films of an agent, contact sheets of screens, and maps of saliency."""
