-- A full server refuses the writes of a script unless it has written before, and deleting is never refused. So scripts
-- that in the end free memory begin with this: leases are renewed, messages claimed, run and settled all the same.
redis.call('UNLINK', S .. 'nothing')
