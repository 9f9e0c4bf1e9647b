"""How good is an embedding: retrieval and clustering, exact and in bounded memory."""
