"""The same engine on virtual time, over scripted providers and stores in memory. See `simulate.world`."""
