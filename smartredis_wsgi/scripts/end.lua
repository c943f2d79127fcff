-- End a session that another library has stored. Where it was taken over, and not logged
-- out, a mark says so for a while.
-- KEYS  1 its key; 2 its mark
-- ARGV  1 life of the mark in ms, 0 for none; 2 nonce
-- Returns {nonce}
-- Run twice, it finds nothing to do.
if redis.call('DEL', KEYS[1]) == 1 and ARGV[1] ~= '0' then
  redis.call('SET', KEYS[2], 'taken', 'PX', ARGV[1])
end
return {ARGV[2]}
