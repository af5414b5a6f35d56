"""Many workers seen from outside: their rows, commits and topics. Reads only, and needs no worker to answer."""
