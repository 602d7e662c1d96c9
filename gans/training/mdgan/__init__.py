"""MD-GAN and its baseline FL-GAN: the server, its workers, and the workers over Ray."""
