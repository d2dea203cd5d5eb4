"""The blocking face: every wait sleeps in the calling thread. zq.aio has the same names and awaits instead."""
