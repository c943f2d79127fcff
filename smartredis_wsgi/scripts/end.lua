-- End a session that another library has stored. Where it was taken over, and not logged
-- out, a mark says so for a while: a logout ends the mark, too.
-- KEYS  1 its key; 2 its mark
-- ARGV  1 life of the mark in ms, 0 for none; 2 nonce
-- Returns {nonce}
-- Run twice, it finds nothing to do.
local ended = redis.call('DEL', KEYS[1])
if ARGV[1] == '0' then
  redis.call('DEL', KEYS[2])
elseif ended == 1 then
  redis.call('SET', KEYS[2], 'taken', 'PX', ARGV[1])
end
return {ARGV[2]}
