-- Tell which sessions an owner has; doom them, where they are to be destroyed.
-- KEYS  1 index
-- ARGV  1 1 to doom them, or ''; 2 the slot of one that is left out, or ''; 3 nonce
-- Returns {nonce, {slot, entry, ...}}. Those that were doomed before are told again.
local index, told = KEYS[1], {}
for slot, entry in pairs(entries_of(index)) do
  if slot ~= ARGV[2] then
    if ARGV[1] == '1' and not entry.doomed then
      entry.doomed = true
      redis.call('HSET', index, slot, text_of(entry))
    end
    table.insert(told, slot)
    table.insert(told, redis.call('HGET', index, slot))
  end
end
return {ARGV[3], told}
