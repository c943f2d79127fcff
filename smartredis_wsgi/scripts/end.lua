-- End a session that another library has stored.
-- KEYS  1 its key
-- ARGV  1 nonce
-- Returns {nonce}
-- Run twice, it finds nothing to do.
redis.call('DEL', KEYS[1])
return {ARGV[1]}
