-- Which execution a lease is of: a domain that authorizes it anew expects to hear of its end once. Leases from before are of none.
ALTER TABLE leases ADD COLUMN intent BYTEA;
