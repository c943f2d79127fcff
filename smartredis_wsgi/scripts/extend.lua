-- Prolong a lock that the token still holds.
-- KEYS  1 lock
-- ARGV  1 token; 2 expiry in ms from now; 3 nonce
-- Returns {nonce, 1 if prolonged, 0 if another holds it or nobody}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {ARGV[3], 0} end
return {ARGV[3], redis.call('PEXPIRE', KEYS[1], ARGV[2])}
