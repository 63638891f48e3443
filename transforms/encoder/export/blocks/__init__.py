"""The parts of an encoder on packed tokens: no padding anywhere but inside attention."""
