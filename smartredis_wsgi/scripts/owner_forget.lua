-- Take sessions that are no more out of an owner's index.
-- KEYS  1 index
-- ARGV  1 leave those alone that were used in the last so many ms, unless they are doomed;
--       2.. slot, and the digest of the only name that is gone, or '', for each; last nonce
-- Returns {nonce, how many are out}.
local index, since, out = KEYS[1], now_ms() - ARGV[1], 0
for i = 2, #ARGV - 1, 2 do
  local entry = entry_in(redis.call('HGET', index, ARGV[i]))
  if entry and ARGV[i + 1] ~= '' then
    entry.names = without(entry.names, ARGV[i + 1])
    if entry.names ~= '' then redis.call('HSET', index, ARGV[i], text_of(entry)) end
  end
  local is_over = ARGV[i + 1] == '' or (entry and entry.names == '')
  if is_over and not (entry and entry.used > since and not entry.doomed) then
    out = out + redis.call('HDEL', index, ARGV[i])
  end
end
entries_of(index)
return {ARGV[#ARGV], out}
