"""The storage engines that ship with Ratus; each knows the engine contract and its database, nothing else."""
