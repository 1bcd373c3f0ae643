"""The networks: clips to class probabilities, in Keras ops only."""
