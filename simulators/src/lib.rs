//! A fake AMD and a fake Intel: evidence in exactly the form of the real thing, under roots of their own.
