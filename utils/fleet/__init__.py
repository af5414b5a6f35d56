"""Many workers seen from outside: their rows, their groups, their topics. Reads only, and needs no worker to answer."""
