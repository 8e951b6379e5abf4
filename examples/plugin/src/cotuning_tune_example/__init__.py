"""A method, a data set and a backbone for cotuning_tune, each in a module of its own."""
