"""Ground floor: errors, money, ids, time, SQL plumbing. One topic a module; imports no other app."""
