"""The rungs of the ladder by which peers find each other. Each names candidates; only dialling proves a peer."""
