"""The commands of main.py, one file each: what they do, and which arguments they take. Joins no message itself."""
