"""Who may take part in a realm that is open to a network: the realm key, the locks it makes, and their trial."""
